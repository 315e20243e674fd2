using Infini;

/// <summary>A session, which one request uses at a time.</summary>
internal sealed class Client : IDisposable
{
    private readonly Session session;
    private readonly SemaphoreSlim turn = new(1);
    private CancellationTokenSource? call; // that runs
    private bool gone;

    internal Client(Session session)
    {
        this.session = session;
        Measure();
    }

    /// <summary>Of a memory, for who has its turn: the digest of the messages that it has read.</summary>
    internal string Known { get; set; } = "";

    /// <summary>Of a memory, for who has its turn: what its owner wrote about it, for the list.</summary>
    internal string Note { get; set; } = "";

    /// <summary>The text that a store keeps beside the snapshot: the digest and, where there is a note, a space and
    /// that.</summary>
    internal string Beside
    {
        get => Note == "" ? Known : $"{Known} {Note}";
        set => (Known, Note) = Parts(value);
    }

    /// <summary>Of such a text.</summary>
    internal static (string Known, string Note) Parts(string beside) =>
        beside.Split(' ', 2) is [var known, var note] ? (known, note) : (beside, "");

    /// <summary>Of a memory that is stored, for who has its turn: the version that the session goes on from; null: none is stored.</summary>
    internal string? Version { get; set; }

    /// <summary>Of a memory: it holds something that was kept.</summary>
    internal bool Filled { get; set; }

    /// <summary>Of a memory: requests that name it; one has its turn. <see cref="Sessions"/> counts them.</summary>
    internal int Users { get; set; }

    /// <summary>Of the session, after its last use: while it is used, asking would wait.</summary>
    internal long Bytes { get; private set; }

    /// <summary>A version that no store has.</summary>
    internal const string Unknown = "";

    /// <summary>Is done before each use.</summary>
    internal Func<Client, Session, Task>? Renew { private get; init; }

    /// <summary>When it last was.</summary>
    internal DateTime Used { get; set; } = DateTime.UtcNow;

    /// <summary>Takes it from all requests to come, unless one uses it.</summary>
    internal bool TakeForGood() => turn.Wait(0);

    /// <summary>What the list of sessions says of it; null where it was deleted meanwhile. Does not wait.</summary>
    internal object? Describe(string id) => Position is { } position ? new { id, position, busy = turn.CurrentCount == 0 } : null;

    /// <summary>The session's; null where it was deleted. Does not wait.</summary>
    internal long? Position
    {
        get
        {
            try
            {
                return session.Position;
            }
            catch (ObjectDisposedException)
            {
                return null;
            }
        }
    }

    /// <summary>Ends the call that runs, if any.</summary>
    internal void Cancel()
    {
        lock (turn) call?.Cancel();
    }

    public void Dispose()
    {
        lock (turn)
        {
            gone = true;
            call?.Cancel();
        }
        session.Dispose();
    }

    /// <summary>Uses the session, until that is done, cancelled, the client leaves or the service ends.</summary>
    internal async Task<T> Use<T>(HttpContext context, CancellationToken ending,
                                  Func<Session, CancellationToken, Task<T>> use)
    {
        // A moment's wait: the request before may have answered and not quite ended.
        if (!await turn.WaitAsync(1000, Connection.Of(context).Left))
            throw new Refusal(409, "BUSY", "another request uses the session");
        try
        {
            using var cancelled = CancellationTokenSource.CreateLinkedTokenSource(
                ending, context.RequestAborted, Connection.Of(context).Left);
            lock (turn)
            {
                ObjectDisposedException.ThrowIf(gone, session);
                call = cancelled;
            }
            Used = DateTime.UtcNow;
            try
            {
                if (Renew is not null) await Renew(this, session);
                return await use(session, cancelled.Token);
            }
            finally
            {
                lock (turn) call = null;
                Measure();
                Used = DateTime.UtcNow;
            }
        }
        finally
        {
            turn.Release();
        }
    }

    private void Measure()
    {
        try
        {
            Bytes = session.Info().SessionBytes;
        }
        catch (Exception e) when (Refusal.IsCancel(e))
        {
            // it was deleted
        }
    }
}
