using System.Text.Json;

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
    private readonly Turn turn = new();
    private readonly Work work = new();
    private int disposed; // IsClosed of the handle becomes true only when the last call has left

    internal Session(SessionHandle handle, int vocabulary, int width) =>
        (this.handle, this.vocabulary, this.width) = (handle, vocabulary, width);

    /// <summary>Whose turn it is.</summary>
    internal Turn Turn => turn;

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
    public void SetOptions(InfiniSessionOptions options) =>
        InfiniOptions.With(options, o => Call(session => Native.infini_session_set_options(session, o)));

    /// <summary>The logits after the last token, before any option of the sampler.</summary>
    /// <returns><see cref="Model.Vocabulary"/> numbers.</returns>
    /// <exception cref="InfiniException">State: nothing was fed yet.</exception>
    public unsafe float[] Logits() => Row(vocabulary, Native.infini_session_logits);

    /// <summary>The last layer's normed output for the last token.</summary>
    /// <returns><see cref="Model.Width"/> numbers.</returns>
    /// <exception cref="InfiniException">State: nothing was fed yet.</exception>
    public unsafe float[] Embedding() => Row(width, Native.infini_session_embedding);

    /// <summary>Folds the open segment into the memory, though it is not full. Costs quality if done often.</summary>
    public void CloseSegment() => Call(Native.infini_session_close_segment);

    /// <summary>Marks the last tokens as worth keeping, where the model keeps sentences (option "keep"): they stay in view
    /// before all that it would keep by itself, those that are marked last first.</summary>
    /// <param name="tokens">How many.</param>
    /// <exception cref="InfiniException">State: the model keeps none; InvalidArgument: more than the window holds.</exception>
    public void Keep(long tokens) => Call(session => Native.infini_session_keep(session, tokens));

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

    /// <summary>Tokens read since the stream began, generated ones included. Does not wait for a turn: while a call reads, they
    /// are those of its chunks that are done.</summary>
    public unsafe long Position
    {
        get
        {
            long position;
            InfiniException.Check(Native.infini_session_position(Handle, &position));
            return position;
        }
    }

    /// <summary>Tokens in the open segment.</summary>
    public unsafe long SegmentPosition => Number(Native.infini_session_segment_position);

    /// <summary>Tokens that were folded into the memory.</summary>
    public unsafe long MemoryTokens => Number(Native.infini_session_memory_tokens);

    /// <summary>All numbers of the session.</summary>
    /// <returns>What it holds, where it stands, how it is set.</returns>
    public SessionInfo Info() => JsonSerializer.Deserialize(InfoJson(), LibraryJson.Default.SessionInfo)!;

    /// <summary>All numbers of the session, as the library wrote them.</summary>
    /// <returns>A JSON object: "position", "state_bytes", "stop_reason", ...</returns>
    public unsafe string InfoJson() => Text(Native.infini_session_info_json);

    /// <summary>Cancels the call that runs, if any, and frees the session when it has returned. Disposing again does
    /// nothing.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref disposed, 1) != 0) return;
        Native.infini_session_cancel(handle); // of calls that take no task
        work.Dispose();
        handle.Dispose();
    }

    private unsafe delegate int Writer(SessionHandle session, byte* buffer, nuint capacity, nuint* size);

    private unsafe delegate int Getter(SessionHandle session, long* value);

    private unsafe delegate int Filler(SessionHandle session, float* buffer, nuint capacity, nuint* size);

    private void Call(Func<SessionHandle, int> call)
    {
        using (turn.Take()) InfiniException.Check(call(Handle));
    }

    private void Long(Func<SessionHandle, TaskHandle, int> call, IProgress<WorkProgress>? progress, CancellationToken cancellation,
                      string? path = null)
    {
        using var reporter = Reporter.Of(progress);
        using (turn.Take(cancellation)) work.Run(task => call(Handle, task), reporter, cancellation, path);
        reporter?.End();
    }

    private async Task LongAsync(Func<SessionHandle, TaskHandle, int> call, IProgress<WorkProgress>? progress,
                                 CancellationToken cancellation, string? path = null)
    {
        using var reporter = Reporter.Of(progress);
        await OnPool(() => work.Run(task => call(Handle, task), reporter, cancellation, path), cancellation).ConfigureAwait(false);
        reporter?.End();
    }

    // No thread waits for the turn.
    private async Task OnPool(Action call, CancellationToken cancellation)
    {
        using (await turn.TakeAsync(cancellation).ConfigureAwait(false))
            await Task.Run(call, cancellation).ConfigureAwait(false);
    }

    private unsafe string Text(Writer write)
    {
        using (turn.Take()) return Utf8.Text((buffer, capacity, size) => write(Handle, buffer, capacity, size));
    }

    private unsafe long Number(Getter get)
    {
        long value;
        using (turn.Take()) InfiniException.Check(get(Handle, &value));
        return value;
    }

    private unsafe float[] Row(int count, Filler fill)
    {
        float[] row = new float[count];
        fixed (float* values = row)
        {
            using (turn.Take()) InfiniException.Check(fill(Handle, values, (nuint)count, null));
        }
        return row;
    }
}
