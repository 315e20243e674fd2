using Infini;

/// <summary>The memories that are at hand on this silo. They are kept in the database, each by the silo that took it over last.</summary>
internal sealed class Memories(Database database, string address, long mostUnsaved) : IMemoryStore
{
    private readonly Dictionary<string, LiveMemory> live = [];

    /// <summary>Where this silo answers HTTP.</summary>
    internal string Address => address;

    /// <summary>Where sessions are; set once, before anything else.</summary>
    internal Sessions Sessions { private get; set; } = null!;

    /// <summary>Takes a memory over, and brings it to where it was.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="create">Whether it is made where there is none.</param>
    /// <param name="leave">Is called, from any thread, when the memory should leave this silo.</param>
    /// <returns>Null where there is none.</returns>
    internal async Task<LiveMemory?> Open(string name, bool create, Action leave)
    {
        if (await database.TakeOver(name, create) is not { } taken) return null;
        var session = Sessions.NewSession();
        try
        {
            var opened = await Task.Run(async () =>
            {
                if (taken.Snapshot is not null) session.Restore(taken.Snapshot);
                foreach (byte[] text in taken.Feeds) session.Feed(new MemoryStream(text));
                var client = await Sessions.Add(Sessions.MemoryId + name, session);
                client.Beside = taken.Beside;
                client.Filled = taken.Snapshot is not null || taken.Feeds.Count > 0;
                return new LiveMemory(name, taken, client, session, database, mostUnsaved, leave,
                                      e => Sessions.LogError?.Invoke("a memory could not be kept", e));
            });
            lock (live) live[name] = opened;
            return opened;
        }
        catch
        {
            session.Dispose();
            throw;
        }
    }

    /// <summary>Lets a memory go when its requests have ended, and saves it.</summary>
    internal async Task Close(LiveMemory memory, CancellationToken cancellation)
    {
        try
        {
            await memory.Close(cancellation);
        }
        finally
        {
            lock (live)
            {
                if (live.GetValueOrDefault(memory.Name) == memory) live.Remove(memory.Name);
            }
            Sessions.Remove(Sessions.MemoryId + memory.Name);
        }
    }

    /// <summary>Begins a request of a memory, which ends with <see cref="LiveMemory.Leave"/>.</summary>
    /// <returns>Null where it is not at hand.</returns>
    internal LiveMemory? Enter(string name)
    {
        lock (live) return live.TryGetValue(name, out var memory) && memory.Enter() ? memory : null;
    }

    public bool Rereads => false; // grains do

    /// <summary>Sends the memory away that was used the longest ago; it leaves within a moment.</summary>
    public void MakeRoom()
    {
        LiveMemory? oldest;
        lock (live) oldest = live.Values.Where(memory => memory.Idle).MinBy(memory => memory.Used);
        oldest?.SendAway();
    }

    public Task<Dictionary<string, (long Bytes, Func<string> Beside)>> List() => database.List();

    // What is at hand here is the newest, or is lost.
    public string? Version(string name) => Of(name).Name;

    public Task<(string Beside, string Version)?> Read(string name, Session session) => throw LiveMemory.Moved();

    public async Task<string?> Write(string name, Session session, string beside, string? replaces)
    {
        await Of(name).Save(beside);
        return "";
    }

    public Task Delete(string name) => Of(name).Delete();

    /// <summary>One that is at hand, for a request that has entered it.</summary>
    internal LiveMemory Of(string name)
    {
        lock (live) return live.TryGetValue(name, out var memory) ? memory : throw LiveMemory.Moved();
    }
}
