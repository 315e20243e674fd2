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
