using System.Runtime.CompilerServices;
using System.Text;

namespace Infini;

/// <summary>The sum of the negative log-likelihoods of a text's tokens; its perplexity is exp(Nll / Scored).</summary>
/// <param name="Nll">In nats.</param>
/// <param name="Scored">How many tokens it covers: all but a first one with nothing before it.</param>
public readonly record struct TextScore(double Nll, long Scored);

/// <summary>One stream through a model: its memory, the open segment, the sampler. It may be called from any thread; calls
/// take turns.</summary>
/// <remarks><see cref="Dispose"/> may be called at any time, from any thread and more than once: a call that runs is
/// cancelled, the last one to leave frees the session, later ones throw <see cref="ObjectDisposedException"/>. A session
/// that is never disposed is freed by the garbage collector.</remarks>
public sealed partial class Session : IDisposable
{
    private readonly SessionHandle handle;
    private readonly int vocabulary, width;
    private readonly object turn = new();
    private byte[] buffer = new byte[256]; // of NextText
    private int disposed; // IsClosed of the handle becomes true only when the last call has left

    internal Session(SessionHandle handle, int vocabulary, int width) =>
        (this.handle, this.vocabulary, this.width) = (handle, vocabulary, width);

    /// <summary>The lock of a call's turn.</summary>
    internal object Turn => turn;

    /// <summary>The handle, for those who hold it and do not mind that it is closed.</summary>
    internal SessionHandle HandleOrDisposed => handle;

    internal SessionHandle Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(Volatile.Read(ref disposed) != 0, this);
            return handle;
        }
    }

    /// <summary>Changes options: those that are set replace what was. Setting "seed" restarts the random generator.</summary>
    /// <param name="options">As in <see cref="Model.CreateSession"/>.</param>
    /// <exception cref="InfiniException">UnknownOption, InvalidArgument; nothing has changed.</exception>
    public void SetOptions(Options options) =>
        Options.With(options, o => Call(session => Native.infini_session_set_options(session, o)));

    /// <summary>Reads tokens; full segments go to the memory. How a stream is cut into calls does not matter.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="progress">Hears, on other threads, of stage "feed", in tokens.</param>
    /// <param name="cancellation">Cancels between blocks; what was read before stays, as <see cref="Position"/> tells, and
    /// the session may go on.</param>
    /// <exception cref="InfiniException">InvalidArgument (a token is not in the vocabulary; none was read), State (an
    /// earlier error struck in the middle of a block; reset the session).</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public unsafe void Feed(ReadOnlySpan<int> tokens, IProgress<Progress>? progress = null, CancellationToken cancellation = default)
    {
        fixed (int* data = tokens)
        {
            int* pinned = data;
            nuint count = (nuint)tokens.Length;
            Long((session, task) => Native.infini_session_feed(session, pinned, count, task), progress, cancellation);
        }
    }

    /// <summary>Tokenizes a UTF-8 text by itself and reads its tokens. Only at position 0 does it get what begins a text,
    /// such as BOS. Control tokens are parsed from it only with option "special".</summary>
    /// <param name="utf8">The text.</param>
    /// <param name="progress">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{Progress}, CancellationToken)"/>.</param>
    /// <param name="cancellation">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{Progress}, CancellationToken)"/>.</param>
    /// <exception cref="InfiniException">InvalidArgument (the text is not UTF-8; nothing was read), State (the model has no
    /// tokenizer, or as for tokens).</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public unsafe void Feed(ReadOnlySpan<byte> utf8, IProgress<Progress>? progress = null, CancellationToken cancellation = default)
    {
        fixed (byte* data = utf8)
        {
            byte* pinned = data;
            nuint count = (nuint)utf8.Length;
            Long((session, task) => Native.infini_session_feed_text(session, pinned, count, task), progress, cancellation);
        }
    }

    /// <summary>Tokenizes a text by itself and reads its tokens, as for UTF-8.</summary>
    /// <param name="text">The text.</param>
    /// <param name="progress">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{Progress}, CancellationToken)"/>.</param>
    /// <param name="cancellation">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{Progress}, CancellationToken)"/>.</param>
    /// <exception cref="ArgumentException">The string has half of a surrogate pair in it.</exception>
    /// <exception cref="InfiniException">As for UTF-8.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Feed(string text, IProgress<Progress>? progress = null, CancellationToken cancellation = default) =>
        Feed(Utf8.Encode(text).AsSpan(), progress, cancellation);

    /// <summary>Reads a UTF-8 text of any length, to its end, in pieces of at most 64 KiB.</summary>
    /// <param name="text">Is read, and not disposed.</param>
    /// <param name="progress">That of the piece.</param>
    /// <param name="cancellation">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{Progress}, CancellationToken)"/>.</param>
    /// <exception cref="InfiniException">InvalidArgument (the text is not UTF-8, the message gives the offset; everything
    /// before the piece that failed was read); else as for a string.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Feed(Stream text, IProgress<Progress>? progress = null, CancellationToken cancellation = default)
    {
        using var pieces = new Pieces();
        byte[] data = new byte[Pieces.Largest];
        for (int n; (n = text.Read(data, 0, data.Length)) > 0;)
        {
            pieces.Push(data.AsSpan(0, n));
            while (pieces.Next() is { } piece) Feed(piece.Span, progress, cancellation);
        }
        pieces.Finish();
        while (pieces.Next() is { } piece) Feed(piece.Span, progress, cancellation);
    }

    /// <summary>Reads tokens on a thread of the pool.</summary>
    /// <param name="tokens">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{Progress}, CancellationToken)"/>.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>When the tokens were read.</returns>
    public Task FeedAsync(ReadOnlyMemory<int> tokens, IProgress<Progress>? progress = null,
                          CancellationToken cancellation = default) =>
        Task.Run(() => Feed(tokens.Span, progress, cancellation), cancellation);

    /// <summary>Reads a text on a thread of the pool.</summary>
    /// <param name="text">As in <see cref="Feed(string, IProgress{Progress}, CancellationToken)"/>.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>When the text was read.</returns>
    public Task FeedAsync(string text, IProgress<Progress>? progress = null, CancellationToken cancellation = default) =>
        Task.Run(() => Feed(text, progress, cancellation), cancellation);

    /// <summary>Reads a UTF-8 text of any length, to its end, without blocking for it.</summary>
    /// <param name="text">As in <see cref="Feed(Stream, IProgress{Progress}, CancellationToken)"/>.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>When the text was read.</returns>
    public async Task FeedAsync(Stream text, IProgress<Progress>? progress = null, CancellationToken cancellation = default)
    {
        using var pieces = new Pieces();
        byte[] data = new byte[Pieces.Largest];
        for (int n; (n = await text.ReadAsync(data, cancellation).ConfigureAwait(false)) > 0;)
        {
            pieces.Push(data.AsSpan(0, n));
            await FeedPieces().ConfigureAwait(false);
        }
        pieces.Finish();
        await FeedPieces().ConfigureAwait(false);

        async Task FeedPieces()
        {
            while (pieces.Next() is { } piece)
                await Task.Run(() => Feed(piece.Span, progress, cancellation), cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Generates until at least one whole character is ready.</summary>
    /// <returns>That text; null when the run has ended (end token, stop string, or option "max_tokens"), and the call after
    /// that begins a new run.</returns>
    /// <exception cref="InfiniException">State (nothing was fed yet, or the model has no tokenizer), Cancelled (by
    /// <see cref="Cancel"/>; another call goes on).</exception>
    public unsafe string? NextText()
    {
        lock (turn)
        {
            nuint size;
            int status = Fill();
            if (status == (int)Status.BufferTooSmall)
            {
                buffer = new byte[checked((int)size)];
                status = Fill();
            }
            return InfiniException.Check(status) == InfiniException.End ? null : Encoding.UTF8.GetString(buffer, 0, (int)size);

            int Fill()
            {
                nuint given;
                fixed (byte* data = buffer)
                {
                    int answer = Native.infini_session_next_text(Handle, TaskHandle.None, data, (nuint)buffer.Length, &given);
                    size = given;
                    return answer;
                }
            }
        }
    }

    /// <summary>The text of a run of generation: each element is generated when it is asked for.</summary>
    /// <returns>Text that ends with the run; asking for it throws what <see cref="NextText"/> throws.</returns>
    public IEnumerable<string> Generate()
    {
        while (NextText() is { } text) yield return text;
    }

    /// <summary>The text of a run of generation, each element generated on a thread of the pool.</summary>
    /// <param name="cancellation">Is looked at before each element; the session may go on after it.</param>
    /// <returns>Text that ends with the run; asking for it throws what <see cref="NextText"/> throws.</returns>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public async IAsyncEnumerable<string> GenerateAsync([EnumeratorCancellation] CancellationToken cancellation = default)
    {
        while (await Task.Run(NextText, cancellation).ConfigureAwait(false) is { } text) yield return text;
    }

    /// <summary>Samples a token from the last logits, feeds it and gives it. An end token ends the run and is not
    /// fed.</summary>
    /// <returns>The token; null when the run has ended, and the call after that begins a new run.</returns>
    /// <exception cref="InfiniException">State (nothing was fed yet), Cancelled (by <see cref="Cancel"/>; another call goes
    /// on).</exception>
    public unsafe int? NextToken()
    {
        int token;
        lock (turn)
        {
            if (InfiniException.Check(Native.infini_session_next(Handle, TaskHandle.None, &token)) == InfiniException.End) return null;
        }
        return token;
    }

    /// <summary>The tokens of a run of generation: each is generated when it is asked for.</summary>
    /// <returns>Tokens that end with the run; asking for them throws what <see cref="NextToken"/> throws.</returns>
    public IEnumerable<int> Tokens()
    {
        while (NextToken() is { } token) yield return token;
    }

    /// <summary>Begins a new run before the last one has ended: "max_tokens" and stop strings count from here.</summary>
    public void StartGeneration() => Call(Native.infini_session_start_generation);

    /// <summary>Why the run has ended: "none" (it has not), "end_token", "stop_string" or "max_tokens".</summary>
    public unsafe string StopReason => Text(Native.infini_session_stop_reason);

    /// <summary>Cancels the running call of this session, which throws Cancelled; where none runs, nothing happens. From any
    /// thread, without waiting for a turn.</summary>
    public void Cancel() => InfiniException.Check(Native.infini_session_cancel(Handle));

    /// <summary>The logits after the last token, before any option of the sampler.</summary>
    /// <returns><see cref="Model.Vocabulary"/> numbers.</returns>
    /// <exception cref="InfiniException">State: nothing was fed yet.</exception>
    public unsafe float[] Logits() => Row(vocabulary, Native.infini_session_logits);

    /// <summary>The last layer's normed output for the last token.</summary>
    /// <returns><see cref="Model.Width"/> numbers.</returns>
    /// <exception cref="InfiniException">State: nothing was fed yet.</exception>
    public unsafe float[] Embedding() => Row(width, Native.infini_session_embedding);

    /// <summary>Reads tokens as <see cref="Feed(ReadOnlySpan{int}, IProgress{Progress}, CancellationToken)"/> does and gives
    /// the logits after each.</summary>
    /// <param name="tokens">As there.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>Rows of <see cref="Model.Vocabulary"/> numbers, one a token, one after the other.</returns>
    public unsafe float[] FeedLogits(ReadOnlySpan<int> tokens, IProgress<Progress>? progress = null,
                              CancellationToken cancellation = default)
    {
        float[] logits = new float[checked(tokens.Length * vocabulary)];
        fixed (int* data = tokens)
        fixed (float* result = logits)
        {
            int* pinned = data;
            float* to = result;
            nuint count = (nuint)tokens.Length, room = (nuint)logits.Length;
            Long((session, task) => Native.infini_session_feed_logits(session, pinned, count, task, to, room),
                 progress, cancellation);
        }
        return logits;
    }

    /// <summary>Reads tokens as <see cref="Feed(ReadOnlySpan{int}, IProgress{Progress}, CancellationToken)"/> does and gives
    /// the negative log-likelihood of each.</summary>
    /// <param name="tokens">As there.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>In nats, one a token; the first is NaN where nothing was fed before.</returns>
    public unsafe float[] Score(ReadOnlySpan<int> tokens, IProgress<Progress>? progress = null,
                         CancellationToken cancellation = default)
    {
        float[] nll = new float[tokens.Length];
        fixed (int* data = tokens)
        fixed (float* result = nll)
        {
            int* pinned = data;
            float* to = result;
            nuint count = (nuint)tokens.Length;
            Long((session, task) => Native.infini_session_score(session, pinned, count, task, to, count),
                 progress, cancellation);
        }
        return nll;
    }

    /// <summary>Reads a text as <see cref="Feed(string, IProgress{Progress}, CancellationToken)"/> does and says how likely
    /// it was.</summary>
    /// <param name="text">As there.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>The sum over its tokens.</returns>
    public unsafe TextScore Score(string text, IProgress<Progress>? progress = null, CancellationToken cancellation = default)
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

    /// <summary>Folds the open segment into the memory, though it is not full. Costs quality if done often.</summary>
    public void CloseSegment() => Call(Native.infini_session_close_segment);

    /// <summary>Empties the session: memory, window, logits, text held back. Options and random generator stay.</summary>
    public void Reset() => Call(Native.infini_session_reset);

    /// <summary>A second session that goes on exactly as this one would, at the cost of a copy of its state.</summary>
    /// <returns>The session, which the caller disposes.</returns>
    public Session Fork()
    {
        SessionHandle? fork = null;
        Call(session => Native.infini_session_fork(session, out fork));
        return new Session(fork!, vocabulary, width);
    }

    /// <summary>Tokens read since the stream began, generated ones included.</summary>
    public unsafe long Position => Number(Native.infini_session_position);

    /// <summary>Tokens in the open segment.</summary>
    public unsafe long SegmentPosition => Number(Native.infini_session_segment_position);

    /// <summary>Tokens that were folded into the memory.</summary>
    public unsafe long MemoryTokens => Number(Native.infini_session_memory_tokens);

    /// <summary>All numbers of the session.</summary>
    /// <returns>A JSON object: "position", "state_bytes", "stop_reason", ...</returns>
    public unsafe string InfoJson() => Text(Native.infini_session_info_json);

    /// <summary>Cancels the call that runs, if any, and frees the session when it has returned. Disposing again does
    /// nothing.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref disposed, 1) != 0) return;
        Native.infini_session_cancel(handle);
        handle.Dispose();
    }

    private unsafe delegate int Writer(SessionHandle session, byte* buffer, nuint capacity, nuint* size);

    private unsafe delegate int Getter(SessionHandle session, long* value);

    private unsafe delegate int Filler(SessionHandle session, float* values, nuint count);

    private void Call(Func<SessionHandle, int> call)
    {
        lock (turn) InfiniException.Check(call(Handle));
    }

    private void Long(Func<SessionHandle, TaskHandle, int> call, IProgress<Progress>? progress, CancellationToken cancellation)
    {
        lock (turn) Work.Run(task => call(Handle, task), progress, cancellation);
    }

    private unsafe string Text(Writer write)
    {
        lock (turn) return Utf8.Text((buffer, capacity, size) => write(Handle, buffer, capacity, size));
    }

    private unsafe long Number(Getter get)
    {
        long value;
        lock (turn) InfiniException.Check(get(Handle, &value));
        return value;
    }

    private unsafe float[] Row(int count, Filler fill)
    {
        float[] row = new float[count];
        fixed (float* values = row)
        {
            lock (turn) InfiniException.Check(fill(Handle, values, (nuint)count));
        }
        return row;
    }
}
