using Infini;

/// <summary>A session, which one request uses at a time.</summary>
internal sealed class Client(Session session) : IDisposable
{
    private readonly SemaphoreSlim turn = new(1);
    private CancellationTokenSource? call; // that runs
    private bool gone;

    /// <summary>Of a memory, for who has its turn: the digest of the messages that it has read.</summary>
    internal string Known { get; set; } = "";

    /// <summary>Of a memory that is stored, for who has its turn: the version that the session goes on from; null: none is stored.</summary>
    internal string? Version { get; set; }

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
    internal async Task<IResult> Use(HttpContext context, CancellationToken ending,
                                     Func<Session, CancellationToken, Task<IResult>> use)
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
            try
            {
                if (Renew is not null) await Renew(this, session);
                return await use(session, cancelled.Token);
            }
            finally
            {
                lock (turn) call = null;
            }
        }
        finally
        {
            turn.Release();
        }
    }
}
