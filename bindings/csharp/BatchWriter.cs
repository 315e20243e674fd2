namespace Infini;

/// <summary>Lets sessions of one model write together, token by token, through a <see cref="Batch"/>. A session joins and leaves between
/// two tokens; what it writes is what it would write alone. It may be called from any thread.</summary>
public sealed class BatchWriter
{
    private readonly Batch batch;
    private readonly object mutex = new();
    private List<BatchRun> joining = [];
    private bool busy; // its thread is there

    /// <summary>Makes a writer, which needs no disposal: its thread is there while sessions write.</summary>
    /// <param name="model">Of the sessions; must outlive their runs.</param>
    public BatchWriter(Model model)
    {
        ArgumentNullException.ThrowIfNull(model);
        batch = model.CreateBatch();
    }

    /// <summary>Lets a session write, until its run ends or is cancelled.</summary>
    /// <param name="session">Nothing else uses it until the run has ended.</param>
    /// <param name="cancellation">Ends the run with the reason "cancelled"; the session may go on.</param>
    /// <returns>From which the text is taken. Disposing it ends the run.</returns>
    public BatchRun Begin(Session session, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(session);
        var run = new BatchRun(this, session, cancellation);
        Join(run);
        return run;
    }

    internal void Join(BatchRun run)
    {
        lock (mutex)
        {
            joining.Add(run);
            if (busy) return;
            busy = true;
        }
        new Thread(Write) { IsBackground = true, Name = "infini writer" }.Start();
    }

    // Goes on until no run is left.
    private void Write()
    {
        var runs = new List<BatchRun>(); // in the order of the batch
        while (true)
        {
            List<BatchRun> joined;
            lock (mutex)
            {
                (joined, joining) = (joining, []);
                busy = runs.Count + joined.Count > 0;
                if (!busy) return;
            }
            foreach (var run in joined)
            {
                try
                {
                    batch.Add(run.Session);
                    runs.Add(run);
                }
                catch (Exception e)
                {
                    run.End("", "", e);
                }
            }
            runs.RemoveAll(run =>
            {
                bool leaves = run.Cancelled.IsCancellationRequested;
                if (leaves) Leave(run, "", "cancelled", null);
                return leaves;
            });
            if (runs.Count > 0) runs = Step(runs);
        }
    }

    // Lets each run write a token, and returns those that go on. Where they cannot go together, each goes alone, so that the
    // fault of one is not that of the others.
    private List<BatchRun> Step(List<BatchRun> runs)
    {
        int?[]? tokens = null;
        bool together = true;
        try
        {
            tokens = batch.Next() ?? new int?[runs.Count];
        }
        catch (Exception)
        {
            together = false;
        }
        var staying = new List<BatchRun>();
        for (int i = 0; i < runs.Count; ++i)
        {
            var run = runs[i];
            string text = "";
            try
            {
                int? token = together ? tokens![i] : run.Session.NextToken(run.Cancelled);
                text = batch.Text(run.Session);
                if (token is null) Leave(run, text, run.Session.StopReason, null);
                else if (run.Give(text)) batch.Remove(run.Session); // until the reader has taken it
                else staying.Add(run);
            }
            catch (Exception e)
            {
                Leave(run, text, "", e);
            }
        }
        return staying;
    }

    // Takes a run out of the batch, and tells it then.
    private void Leave(BatchRun run, string text, string reason, Exception? failure)
    {
        batch.Remove(run.Session);
        run.End(text, reason, failure);
    }
}

/// <summary>What one session writes through a <see cref="BatchWriter"/>. It is written ahead of who takes it, 65536 characters at
/// most; then it waits for that.</summary>
public sealed class BatchRun : IAsyncDisposable
{
    private const int MostBehind = 1 << 16; // characters

    private readonly BatchWriter writer;
    private readonly CancellationTokenSource cancelled;
    private readonly TaskCompletionSource free = new(TaskCreationOptions.RunContinuationsAsynchronously); // it has left the batch
    private readonly SemaphoreSlim more = new(0); // may be taken once there is more
    private readonly List<string> pieces = [];
    private int behind; // characters of these
    private bool writing = true; // it is in the batch, or will be
    private bool ended;
    private string reason = "";
    private Exception? failure;

    internal BatchRun(BatchWriter writer, Session session, CancellationToken cancellation)
    {
        (this.writer, Session) = (writer, session);
        cancelled = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        Cancelled = cancelled.Token;
    }

    internal Session Session { get; }

    internal CancellationToken Cancelled { get; }

    /// <summary>Takes what was written since, and waits where nothing was. One caller at a time.</summary>
    /// <param name="patience">How long it waits; null: for ever.</param>
    /// <returns>The text, a piece for each token that gave some; none where nothing came for so long; null when the run has ended, and
    /// the session is free, with the reason: that of <see cref="Session.StopReason"/>, or "cancelled".</returns>
    /// <exception cref="InfiniException">As for <see cref="Session.NextToken"/>; the run has ended.</exception>
    /// <exception cref="ObjectDisposedException">The session was disposed; the run has ended.</exception>
    public async Task<(string[]? Pieces, string Reason)> TakeAsync(TimeSpan? patience = null)
    {
        for (bool waiting = true; ;)
        {
            lock (pieces)
            {
                string[] written = [.. pieces];
                pieces.Clear();
                behind = 0;
                if (!writing && !ended) // it has waited for us
                {
                    writing = true;
                    writer.Join(this);
                }
                if (written.Length > 0) return (written, "");
                if (ended) return failure is null ? (null, reason) : throw failure;
            }
            if (!waiting) return ([], "");
            waiting = await more.WaitAsync(patience ?? Timeout.InfiniteTimeSpan).ConfigureAwait(false);
        }
    }

    /// <summary>Ends the run, if it has not ended, and waits until the session is free: a token at most. Nothing may be taken
    /// then.</summary>
    /// <returns>When that is so.</returns>
    public async ValueTask DisposeAsync()
    {
        await cancelled.CancelAsync().ConfigureAwait(false);
        lock (pieces)
        {
            if (!writing) free.TrySetResult();
        }
        await free.Task.ConfigureAwait(false);
        cancelled.Dispose();
    }

    // Hands over what was written. Returns whether the reader is so far behind that the run must wait.
    internal bool Give(string written)
    {
        lock (pieces)
        {
            Append(written);
            writing = behind < MostBehind;
            return !writing;
        }
    }

    // Hands over the last of it.
    internal void End(string written, string why, Exception? fault)
    {
        lock (pieces)
        {
            Append(written);
            (writing, ended, reason, failure) = (false, true, why, fault);
            free.TrySetResult();
            Tell();
        }
    }

    private void Append(string written)
    {
        if (written == "") return;
        pieces.Add(written);
        behind += written.Length;
        Tell();
    }

    private void Tell()
    {
        if (more.CurrentCount == 0) more.Release();
    }
}
