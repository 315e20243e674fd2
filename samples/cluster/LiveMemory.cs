using Infini;

/// <summary>A memory that is at hand: a session, and where that stands in the database. Feeds and saves are for who has the
/// session's turn.</summary>
internal sealed class LiveMemory(string name, Taken taken, Client client, Session session, Database database,
                                 long mostUnsaved, Action leave, Action<Exception> failed)
{
    internal const int MovedCode = 421;

    private readonly object mutex = new();
    private readonly TaskCompletionSource free = new(TaskCreationOptions.RunContinuationsAsynchronously); // closed, and no request is left
    private readonly SemaphoreSlim writing = new(1);
    private long last = taken.Last; // feed that the session has read
    private long unsaved = taken.Feeds.Sum(text => text.LongLength); // bytes
    private int users;
    private bool closed;
    private volatile bool lost;

    internal string Name => name;

    /// <summary>When it was last.</summary>
    internal DateTime Used => client.Used;

    /// <summary>Whether the session is not what the database has.</summary>
    internal bool Lost => lost;

    /// <summary>Whether no request has it.</summary>
    internal bool Idle
    {
        get { lock (mutex) return users == 0 && !closed; }
    }

    /// <summary>Says that a memory is not, or no longer, on this silo; whoever asked looks for it anew.</summary>
    internal static Refusal Moved() => new(MovedCode, "MOVED", "the memory is on another silo");

    /// <summary>Begins a request. Whether it may.</summary>
    internal bool Enter()
    {
        lock (mutex)
        {
            if (closed) return false;
            ++users;
            client.Used = DateTime.UtcNow;
            return true;
        }
    }

    /// <summary>Ends a request.</summary>
    internal void Leave()
    {
        lock (mutex)
        {
            if (--users == 0 && closed) free.TrySetResult();
        }
    }

    /// <summary>Asks that the memory leave this silo.</summary>
    internal void SendAway() => leave();

    /// <summary>Has a text read, once for each key. It is in the database before the session reads it.</summary>
    /// <returns>The number of the feed among those of the memory.</returns>
    internal Task<long> Feed(string key, byte[] text, Func<Stream, Task> read) => Keeping(async () =>
    {
        long number = await database.AddFeed(name, taken.Epoch, last + 1, key, text);
        if (number <= last) return number;
        await read(new MemoryStream(text));
        last = number;
        client.Filled = true;
        unsaved += text.Length;
        if (unsaved >= mostUnsaved) await Replace(client.Beside);
        return number;
    });

    /// <summary>Makes sure that no other silo has taken the memory over, for who only reads it.</summary>
    internal Task Confirm() => Keeping(async () =>
    {
        await database.Confirm(name, taken.Epoch);
        return 0;
    });

    /// <summary>Takes a snapshot into the database, in place of the feeds that it holds.</summary>
    internal Task Save(string beside) => Keeping(async () =>
    {
        await Replace(beside);
        return 0;
    });

    /// <summary>Deletes it, and says where it held nothing.</summary>
    internal async Task Delete()
    {
        await database.Delete(name, taken.Epoch);
        Lose();
        if (!client.Filled) throw Sessions.NoMemory();
    }

    /// <summary>Lets no request in any more, waits for those that are there, and saves what is not saved.</summary>
    internal async Task Close(CancellationToken cancellation)
    {
        lock (mutex)
        {
            closed = true;
            if (users == 0) free.TrySetResult();
        }
        try
        {
            await free.Task.WaitAsync(cancellation);
        }
        catch (OperationCanceledException)
        {
            lost = true; // for who is still there, but what is being written is
            await writing.WaitAsync(CancellationToken.None);
            writing.Release();
            throw;
        }
        if (!lost && unsaved > 0) await Save(client.Beside);
    }

    private async Task Replace(string beside)
    {
        await writing.WaitAsync();
        try
        {
            if (lost) throw new LostException(name);
            byte[] snapshot = await Task.Run(() => session.Snapshot(name: name, note: beside));
            await database.Replace(name, taken.Epoch, last, snapshot, beside);
            unsaved = 0;
        }
        finally
        {
            writing.Release();
        }
    }

    // What fails here has failed between session and database: then the next silo, or this one, begins with what the database has.
    private async Task<T> Keeping<T>(Func<Task<T>> keep)
    {
        if (lost) throw Moved();
        try
        {
            return await keep();
        }
        catch (Exception e)
        {
            bool moved = lost || e is LostException;
            Lose();
            if (moved) throw Moved();
            failed(e);
            throw new Refusal(503, "NOT_KEPT", "the memory could not be kept, and is what the database has");
        }
    }

    private void Lose()
    {
        lost = true;
        lock (mutex) closed = true;
        client.Dispose();
        leave();
    }
}
