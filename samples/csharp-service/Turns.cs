/// <summary>Lets so many in at once. Of those that wait the client is let in whose last turn was the longest ago, so that one with
/// many requests does not hold up others.</summary>
internal sealed class Turns(long most, long? bound)
{
    private const int MaxKnown = 1 << 12; // clients of which it is known when they were let in

    private readonly object mutex = new();
    private readonly Dictionary<string, List<TaskCompletionSource>> queues = []; // of clients that wait
    private readonly Dictionary<string, long> last = []; // when a client was let in last or, where that is not known, came
    private long clock; // of these
    private int inside, waiting;

    /// <summary>How many are inside, and how many wait.</summary>
    internal (int Inside, int Waiting) Counts
    {
        get { lock (mutex) return (inside, waiting); }
    }

    /// <summary>Whether nobody else may wait.</summary>
    internal bool Full => bound > 0 && Counts.Waiting >= bound;

    /// <summary>About when who waits now has had its turn, in seconds.</summary>
    internal long RetryAfter => 1 + Counts.Waiting / Math.Max(most, 1);

    internal Refusal Refused() => new(429, "QUEUE_FULL", $"{Counts.Waiting} requests wait already; try again later");

    /// <summary>Waits for a turn, which ends with <see cref="Leave"/>.</summary>
    internal Task Take(string client, CancellationToken cancellation) => Wait(client, true, cancellation);

    /// <summary>Waits for a turn, which is not refused, since the request has had one.</summary>
    internal Task Again(string client, CancellationToken cancellation) => Wait(client, false, cancellation);

    private async Task Wait(string client, bool bounded, CancellationToken cancellation)
    {
        var let = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (mutex)
        {
            if (inside < Math.Max(most, 1))
            {
                ++inside;
                Stamp(client);
                return;
            }
            if (bounded && waiting >= bound) throw Refused();
            if (!last.ContainsKey(client)) Stamp(client);
            if (!queues.TryGetValue(client, out var queue)) queues[client] = queue = [];
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
        if (waiting == 0)
        {
            --inside;
            return;
        }
        string client = queues.Keys.MinBy(one => last[one])!;
        queues[client][0].SetResult();
        Drop(client, 0);
        Stamp(client);
    }

    private void Stamp(string client)
    {
        if (last.Count >= MaxKnown)
        {
            foreach (string other in last.Keys.Where(other => !queues.ContainsKey(other)).ToList()) last.Remove(other);
        }
        last[client] = ++clock;
    }

    private void Drop(string client, int place)
    {
        --waiting;
        queues[client].RemoveAt(place);
        if (queues[client].Count == 0) queues.Remove(client);
    }
}

/// <summary>A text of which the model reads a piece in a turn, which it gives up while it waits for more: who is slow to send holds
/// up nobody.</summary>
internal sealed class InTurns(Stream text, Turns turns, string client) : Readable
{
    private readonly byte[] buffer = new byte[1 << 12]; // as many bytes as the library takes for a piece
    private Memory<byte> piece; // what is left of it
    private bool inside, ended;

    /// <summary>Waits for the first piece, and then for its turn; unless it is admitted, it may be refused.</summary>
    internal Task Begin(bool admitted, CancellationToken cancellation) => Fill(admitted ? turns.Again : turns.Take, cancellation);

    public override async ValueTask<int> ReadAsync(Memory<byte> to, CancellationToken cancellation = default)
    {
        if (piece.IsEmpty && !ended) await Fill(turns.Again, cancellation);
        int size = Math.Min(to.Length, piece.Length);
        piece[..size].CopyTo(to);
        piece = piece[size..];
        return size;
    }

    protected override void Dispose(bool disposing) => Leave();

    private async Task Fill(Func<string, CancellationToken, Task> take, CancellationToken cancellation)
    {
        Leave();
        int size = await text.ReadAsync(buffer, cancellation);
        await take(client, cancellation);
        (inside, ended, piece) = (true, size == 0, buffer.AsMemory(0, size));
    }

    private void Leave()
    {
        if (inside) turns.Leave();
        inside = false;
    }
}
