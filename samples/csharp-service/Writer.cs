using System.Text;
using Infini;

/// <summary>Lets so many in at once. Who waits is let in by clients in turn, so that one with many requests does not hold up
/// others.</summary>
internal sealed class Turns(long most, long? bound)
{
    private readonly object mutex = new();
    private readonly List<string> clients = []; // that wait, the next one first
    private readonly Dictionary<string, List<TaskCompletionSource>> queues = [];
    private int inside, waiting;

    /// <summary>How many are inside, and how many wait.</summary>
    internal (int Inside, int Waiting) Counts
    {
        get { lock (mutex) return (inside, waiting); }
    }

    /// <summary>Whether nobody else may wait.</summary>
    internal bool Full => bound > 0 && Counts.Waiting >= bound;

    /// <summary>When to try again, in seconds: about when who waits now has had its turn.</summary>
    internal long RetryAfter => 1 + Counts.Waiting / Math.Max(most, 1);

    /// <summary>Waits for a turn, which ends with <see cref="Leave"/>.</summary>
    internal async Task Take(string client, CancellationToken cancellation)
    {
        var let = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (mutex)
        {
            if (inside < Math.Max(most, 1))
            {
                ++inside;
                return;
            }
            if (waiting >= bound) throw new Refusal(429, "QUEUE_FULL", $"{waiting} requests wait already; try again later");
            if (!queues.TryGetValue(client, out var queue))
            {
                clients.Add(client);
                queues[client] = queue = [];
            }
            queue.Add(let);
            ++waiting;
        }
        try
        {
            await let.Task.WaitAsync(cancellation);
        }
        catch (OperationCanceledException)
        {
            lock (mutex)
            {
                int place = queues.TryGetValue(client, out var queue) ? queue.IndexOf(let) : -1;
                if (place >= 0) Drop(client, place);
                else Next(); // it was let in meanwhile
            }
            throw;
        }
    }

    internal void Leave()
    {
        lock (mutex) Next();
    }

    // Gives a turn that ends to who waits.
    private void Next()
    {
        if (clients.Count == 0)
        {
            --inside;
            return;
        }
        string client = clients[0];
        queues[client][0].SetResult();
        Drop(client, 0);
        if (!queues.ContainsKey(client)) return;
        clients.RemoveAt(0); // behind the others
        clients.Add(client);
    }

    private void Drop(string client, int place)
    {
        --waiting;
        queues[client].RemoveAt(place);
        if (queues[client].Count > 0) return;
        queues.Remove(client);
        clients.Remove(client);
    }
}

/// <summary>Lets sessions write together, through one batch of the library, token by token. A run joins and leaves between two
/// tokens.</summary>
internal sealed class Writer(Batch batch)
{
    private readonly object mutex = new();
    private List<Run> joining = [];
    private bool busy; // its thread is there

    /// <summary>Lets a session write; the caller takes what comes, until it has ended.</summary>
    internal Run Begin(Session session, CancellationToken cancelled)
    {
        var run = new Run(this, session, cancelled);
        Join(run);
        return run;
    }

    internal void Join(Run run)
    {
        lock (mutex)
        {
            joining.Add(run);
            if (busy) return;
            busy = true;
        }
        new Thread(Write) { IsBackground = true, Name = "writer" }.Start();
    }

    // Goes on until no run is left.
    private void Write()
    {
        var runs = new List<Run>(); // in the order of the batch
        while (true)
        {
            List<Run> joined;
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

    // Lets each run write a token, and returns those that go on. Where they cannot go together, each goes alone, so that the fault
    // of one is not that of the others.
    private List<Run> Step(List<Run> runs)
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
        var staying = new List<Run>();
        for (int i = 0; i < runs.Count; ++i)
        {
            var run = runs[i];
            string text = "";
            try
            {
                int? token = together ? tokens![i] : run.Session.NextToken(run.Cancelled);
                text = batch.Text(run.Session);
                if (token is null) Leave(run, text, run.Session.StopReason, null);
                else if (run.Give(text)) batch.Remove(run.Session); // until the client has taken it
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
    private void Leave(Run run, string text, string reason, Exception? failure)
    {
        batch.Remove(run.Session);
        run.End(text, reason, failure);
    }
}

/// <summary>What one request has its session write. It ends when that is cancelled.</summary>
internal sealed class Run(Writer writer, Session session, CancellationToken cancelled)
{
    private const int MostBehind = 1 << 16; // characters that a client may be behind what is written for it

    private readonly SemaphoreSlim more = new(0); // may be taken once there is more
    private readonly StringBuilder text = new();
    private bool writing = true; // it is in the batch, or will be
    private bool ended;
    private string reason = "";
    private Exception? failure;

    internal Session Session => session;
    internal CancellationToken Cancelled => cancelled;

    /// <summary>What was written since; "" where nothing was for so long; null when the run has ended and has left the batch, with
    /// the reason.</summary>
    internal async Task<(string? Text, string Reason)> Take(TimeSpan patience)
    {
        for (bool waiting = true; ; )
        {
            lock (text)
            {
                string written = text.ToString();
                text.Clear();
                if (!writing && !ended) // it has waited for us
                {
                    writing = true;
                    writer.Join(this);
                }
                if (written != "") return (written, "");
                if (ended) return failure is null ? (null, reason) : throw failure;
            }
            if (!waiting) return ("", "");
            waiting = await more.WaitAsync(patience);
        }
    }

    /// <summary>Hands over what was written. Returns whether the client is so far behind that the run must wait.</summary>
    internal bool Give(string written)
    {
        lock (text)
        {
            text.Append(written);
            writing = text.Length < MostBehind;
            if (written != "") Tell();
            return !writing;
        }
    }

    /// <summary>Hands over the last of it.</summary>
    internal void End(string written, string why, Exception? fault)
    {
        lock (text)
        {
            text.Append(written);
            (writing, ended, reason, failure) = (false, true, why, fault);
            Tell();
        }
    }

    private void Tell()
    {
        if (more.CurrentCount == 0) more.Release();
    }
}
