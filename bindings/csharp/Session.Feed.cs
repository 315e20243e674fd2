namespace Infini;

// Reading.
public sealed partial class Session
{
    /// <summary>Reads tokens; full segments go to the memory. How a stream is cut into calls does not matter.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="progress">Hears, on other threads, of stage "feed", in tokens.</param>
    /// <param name="cancellation">Cancels between chunks, and while other calls have their turn; what was read before stays, as
    /// <see cref="Position"/> tells, and the session may go on.</param>
    /// <exception cref="InfiniException">InvalidArgument (a token is not in the vocabulary; none was read), State (an
    /// earlier error struck in the middle of a chunk; reset the session).</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Feed(ReadOnlySpan<int> tokens, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        using var reporter = Reporter.Of(progress);
        using (turn.Take(cancellation)) Read(tokens, reporter, cancellation);
        reporter?.End();
    }

    /// <summary>Tokenizes a UTF-8 text by itself and reads its tokens. Only at position 0 does it get what begins a text,
    /// such as BOS. Control tokens are parsed from it only with <see cref="InfiniSessionOptions.Special"/>.</summary>
    /// <param name="utf8">The text.</param>
    /// <param name="progress">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <param name="cancellation">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <exception cref="InfiniException">InvalidArgument (the text is not UTF-8; nothing was read), State (the model has no
    /// tokenizer, or as for tokens).</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Feed(ReadOnlySpan<byte> utf8, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        using var reporter = Reporter.Of(progress);
        using (turn.Take(cancellation)) Read(utf8, reporter, cancellation);
        reporter?.End();
    }

    /// <summary>Tokenizes a text by itself and reads its tokens, as for UTF-8.</summary>
    /// <param name="text">The text.</param>
    /// <param name="progress">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <param name="cancellation">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <exception cref="ArgumentException">The string has half of a surrogate pair in it.</exception>
    /// <exception cref="InfiniException">As for UTF-8.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Feed(string text, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Feed(Utf8.Encode(text).AsSpan(), progress, cancellation);

    /// <summary>The tokens that <see cref="Feed(string, IProgress{WorkProgress}, CancellationToken)"/> would read here, for who counts
    /// them first or reads them in pieces, between which others have their turn: all of them by
    /// <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/>. What has no token and is left out or replaced
    /// counts as read.</summary>
    /// <param name="text">The text.</param>
    /// <returns>The tokens.</returns>
    /// <exception cref="InfiniException">As there; nothing has changed.</exception>
    public unsafe int[] TextTokens(string text)
    {
        byte[] bytes = Utf8.Encode(text);
        fixed (byte* data = bytes)
        {
            byte* pinned = data;
            using (turn.Take())
            {
                return Model.Tokens((nuint)bytes.Length + 16, (buffer, capacity, size) => Native.infini_session_text_tokens(
                    Handle, pinned, (nuint)bytes.Length, buffer, capacity, size));
            }
        }
    }

    /// <summary>Reads a UTF-8 text of any length, to its end, in pieces of at most 64 KiB, between which other calls may have
    /// their turn.</summary>
    /// <param name="text">Is read, and not disposed.</param>
    /// <param name="progress">Hears, on other threads, of stage "feed", in bytes of the whole text; the total is 0 where the
    /// stream cannot tell its length.</param>
    /// <param name="cancellation">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/>, and
    /// between reads of the stream; what was taken from the stream and not read yet, at most 128 KiB, is dropped.</param>
    /// <exception cref="InfiniException">InvalidArgument (the text is not UTF-8, the message gives the offset; everything
    /// before the piece that failed was read); else as for a string.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Feed(Stream text, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(text);
        using var reporter = Reporter.OfPieces(progress, LengthOf(text));
        using var pieces = new Pieces();
        byte[] data = new byte[Pieces.Largest];
        cancellation.ThrowIfCancellationRequested();
        for (int n; (n = text.Read(data, 0, data.Length)) > 0; cancellation.ThrowIfCancellationRequested())
        {
            pieces.Push(data.AsSpan(0, n));
            ReadPieces();
        }
        pieces.Finish();
        ReadPieces();
        reporter?.End();

        void ReadPieces()
        {
            while (pieces.Next() is { } piece)
            {
                reporter?.NextPiece(piece.Length);
                try
                {
                    using (turn.Take(cancellation)) Read(piece.Span, reporter, cancellation);
                }
                catch (InfiniException e) when (pieces.Places(e)) { throw pieces.Placed(e); }
            }
        }
    }

    /// <summary>Reads a text of any length, to its end, as from a stream.</summary>
    /// <param name="text">Is read, and not disposed.</param>
    /// <param name="progress">As for a stream, in bytes of UTF-8, without a total.</param>
    /// <param name="cancellation">As for a stream.</param>
    /// <exception cref="ArgumentException">The text has half of a surrogate pair in it.</exception>
    /// <exception cref="InfiniException">As for a stream.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Feed(TextReader text, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(text);
        using var stream = new ReaderStream(text);
        Feed(stream, progress, cancellation);
    }

    /// <summary>Reads a file of UTF-8 text, to its end, as from a stream.</summary>
    /// <param name="path">The file.</param>
    /// <param name="progress">As for a stream; the total is the length of the file.</param>
    /// <param name="cancellation">As for a stream.</param>
    /// <exception cref="IOException">The file cannot be opened or read, a <see cref="FileNotFoundException"/> where it is not
    /// there.</exception>
    /// <exception cref="InfiniException">As for a stream.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void FeedFile(string path, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0);
        Feed(file, progress, cancellation);
    }

    /// <summary>Reads tokens on a thread of the pool.</summary>
    /// <param name="tokens">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>When the tokens were read.</returns>
    public async Task FeedAsync(ReadOnlyMemory<int> tokens, IProgress<WorkProgress>? progress = null,
                                CancellationToken cancellation = default)
    {
        using var reporter = Reporter.Of(progress);
        await OnPool(() => Read(tokens.Span, reporter, cancellation), cancellation).ConfigureAwait(false);
        reporter?.End();
    }

    /// <summary>Reads a text on a thread of the pool.</summary>
    /// <param name="text">As in <see cref="Feed(string, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>When the text was read.</returns>
    public async Task FeedAsync(string text, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        byte[] utf8 = Utf8.Encode(text);
        using var reporter = Reporter.Of(progress);
        await OnPool(() => Read(utf8.AsSpan(), reporter, cancellation), cancellation).ConfigureAwait(false);
        reporter?.End();
    }

    /// <summary>Reads a UTF-8 text of any length, to its end. No thread waits for the stream; its pieces are read by the model
    /// on threads of the pool.</summary>
    /// <param name="text">As in <see cref="Feed(Stream, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there; given to the stream too.</param>
    /// <returns>When the text was read.</returns>
    public async Task FeedAsync(Stream text, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(text);
        using var reporter = Reporter.OfPieces(progress, LengthOf(text));
        using var pieces = new Pieces();
        byte[] data = new byte[Pieces.Largest];
        for (int n; (n = await text.ReadAsync(data, cancellation).ConfigureAwait(false)) > 0;)
        {
            pieces.Push(data.AsSpan(0, n));
            await ReadPieces().ConfigureAwait(false);
        }
        pieces.Finish();
        await ReadPieces().ConfigureAwait(false);
        reporter?.End();

        async Task ReadPieces()
        {
            while (pieces.Next() is { } piece)
            {
                reporter?.NextPiece(piece.Length);
                try
                {
                    await OnPool(() => Read(piece.Span, reporter, cancellation), cancellation).ConfigureAwait(false);
                }
                catch (InfiniException e) when (pieces.Places(e)) { throw pieces.Placed(e); }
            }
        }
    }

    /// <summary>Reads a text of any length, to its end, as from a stream.</summary>
    /// <param name="text">As in <see cref="Feed(TextReader, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there; given to the reader too.</param>
    /// <returns>When the text was read.</returns>
    public async Task FeedAsync(TextReader text, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(text);
        using var stream = new ReaderStream(text);
        await FeedAsync(stream, progress, cancellation).ConfigureAwait(false);
    }

    /// <summary>Reads a file of UTF-8 text, to its end, as from a stream.</summary>
    /// <param name="path">As in <see cref="FeedFile"/>.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>When the text was read.</returns>
    public async Task FeedFileAsync(string path, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0, FileOptions.Asynchronous);
        await FeedAsync(file, progress, cancellation).ConfigureAwait(false);
    }

    /// <summary>Reads tokens as <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/> does and gives
    /// the logits after each.</summary>
    /// <param name="tokens">As there.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>Rows of <see cref="Model.Vocabulary"/> numbers, one a token, one after the other.</returns>
    public unsafe float[] FeedLogits(ReadOnlySpan<int> tokens, IProgress<WorkProgress>? progress = null,
                                     CancellationToken cancellation = default)
    {
        float[] logits = new float[checked(tokens.Length * vocabulary)];
        fixed (int* data = tokens)
        fixed (float* result = logits)
        {
            int* pinned = data;
            float* to = result;
            nuint count = (nuint)tokens.Length, room = (nuint)logits.Length;
            Long((session, task) => Native.infini_session_feed_logits(session, pinned, count, task, to, room, null),
                 progress, cancellation);
        }
        return logits;
    }

    /// <summary>Reads tokens as <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/> does and gives
    /// the negative log-likelihood of each.</summary>
    /// <param name="tokens">As there.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>In nats, one a token; the first is NaN where nothing was fed before.</returns>
    public unsafe float[] Score(ReadOnlySpan<int> tokens, IProgress<WorkProgress>? progress = null,
                                CancellationToken cancellation = default)
    {
        float[] nll = new float[tokens.Length];
        fixed (int* data = tokens)
        fixed (float* result = nll)
        {
            int* pinned = data;
            float* to = result;
            nuint count = (nuint)tokens.Length;
            Long((session, task) => Native.infini_session_score(session, pinned, count, task, to, count, null),
                 progress, cancellation);
        }
        return nll;
    }

    /// <summary>Reads a text as <see cref="Feed(string, IProgress{WorkProgress}, CancellationToken)"/> does and says how likely
    /// it was.</summary>
    /// <param name="text">As there.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>The sum over its tokens.</returns>
    public unsafe TextScore Score(string text, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        byte[] bytes = Utf8.Encode(text);
        double nll = 0;
        long scored = 0;
        double* sum = &nll;
        long* number = &scored;
        fixed (byte* data = bytes)
        {
            byte* pinned = data;
            Long((session, task) => Native.infini_session_score_text(session, pinned, (nuint)bytes.Length, task, sum, number),
                 progress, cancellation);
        }
        return new TextScore(nll, scored);
    }

    // In turn.
    private unsafe void Read(ReadOnlySpan<int> tokens, Reporter? reporter, CancellationToken cancellation)
    {
        fixed (int* data = tokens)
        {
            int* pinned = data;
            nuint count = (nuint)tokens.Length;
            work.Run(task => Native.infini_session_feed(Handle, pinned, count, task), reporter, cancellation);
        }
    }

    // In turn.
    private unsafe void Read(ReadOnlySpan<byte> utf8, Reporter? reporter, CancellationToken cancellation)
    {
        fixed (byte* data = utf8)
        {
            byte* pinned = data;
            nuint count = (nuint)utf8.Length;
            work.Run(task => Native.infini_session_feed_text(Handle, pinned, count, task), reporter, cancellation);
        }
    }

    private static long LengthOf(Stream text) => text.CanSeek ? Math.Max(text.Length - text.Position, 0) : 0;
}
