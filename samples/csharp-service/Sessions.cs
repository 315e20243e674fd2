using System.Text.RegularExpressions;
using Infini;

/// <summary>The sessions of the service, of which some are memories: sessions with a name, which are kept in a store after each
/// request where there is one, and then make room for others.</summary>
internal sealed partial class Sessions(Model model, long most, long mostMemories, IMemoryStore? store) : IDisposable
{
    internal const string MemoryId = "memory:"; // before a memory's name

    private const int Tries = 50; // a second in all: a memory's request may have answered and not quite ended

    internal Action<string, Dictionary<string, object>>? Log { get; set; }

    private readonly Dictionary<string, Client> clients = [];
    private readonly object opening = new(); // of memories

    /// <summary>Takes a session in, which is disposed of where there is no room.</summary>
    /// <param name="id">By which it is found.</param>
    /// <param name="session">Belongs to the client then.</param>
    /// <param name="renew">Is done before each use.</param>
    internal Client Add(string id, Session session, Func<Client, Session, Task>? renew = null)
    {
        var client = new Client(session) { Renew = renew };
        for (int tries = 0; tries < Tries; ++tries)
        {
            lock (clients)
            {
                if (clients.Count < most || MakeRoom(DateTime.UtcNow))
                {
                    clients[id] = client;
                    return client;
                }
                if (store is null || !clients.Keys.Any(IsMemory)) break;
            }
            if (tries % 10 == 0) store.MakeRoom();
            Thread.Sleep(20);
        }
        client.Dispose();
        throw new Refusal(429, "TOO_MANY_SESSIONS", "the service has as many sessions as it may have; delete one");
    }

    internal Session NewSession() => model.CreateSession(new InfiniSessionOptions { UnknownText = "skip" });

    internal Client Of(string id)
    {
        lock (clients)
        {
            return clients.TryGetValue(id, out var client) ? client
                : throw new Refusal(404, "NOT_FOUND", "there is no such session");
        }
    }

    /// <summary>Ends its call and closes it.</summary>
    internal void Remove(string id)
    {
        Client? client;
        lock (clients) clients.Remove(id, out client);
        client?.Dispose();
    }

    internal int Count
    {
        get { lock (clients) return clients.Count; }
    }

    internal List<object> Describe()
    {
        lock (clients) return clients.Select(entry => entry.Value.Describe(entry.Key)).OfType<object>().ToList();
    }

    /// <summary>The memory of that name, which is read from the store when its turn comes.</summary>
    internal Client Memory(string name, bool create)
    {
        CheckName(name);
        var client = AtHand(name);
        if (client is not null && (create || store is null)) return client;
        bool stored = store?.Version(name) is not null;
        if (!stored && !create) throw new Refusal(404, "NOT_FOUND", "there is no memory of that name");
        lock (opening)
        {
            client = AtHand(name);
            if (client is not null) return client;
            if (!stored && Memories().GetAwaiter().GetResult().Count >= mostMemories)
                throw new Refusal(429, "TOO_MANY_MEMORIES", "the service has as many memories as it may have; delete one");
            return Add(MemoryId + name, NewSession(), store is null ? null : (client, session) => Renew(name, client, session));
        }
    }

    private Client? AtHand(string name)
    {
        lock (clients)
        {
            if (clients.TryGetValue(MemoryId + name, out var client)) client.Used = DateTime.UtcNow;
            return client;
        }
    }

    // Puts a memory where the store has it, which another service may have written, or deleted, since.
    private async Task Renew(string name, Client client, Session session)
    {
        if (store!.Version(name) == client.Version) return;
        client.Version = Client.Unknown;
        if (await store.Read(name, session) is var (known, version))
        {
            (client.Known, client.Version) = (known, version);
            return;
        }
        session.Reset();
        (client.Known, client.Version) = ("", null);
    }

    /// <summary>Refuses what cannot be a memory's name.</summary>
    internal static void CheckName(string name)
    {
        if (!MemoryName().IsMatch(name))
            throw Refusal.Invalid($"'{name}' cannot be the name of a memory: 1 to 64 of A-Z a-z 0-9 . _ -, and no dot first");
    }

    /// <summary>All memories by name, with the bytes of their snapshots.</summary>
    internal async Task<SortedDictionary<string, long>> Memories()
    {
        var kept = store is null ? [] : await store.List();
        lock (clients)
        {
            foreach (string id in clients.Keys.Where(IsMemory)) kept.TryAdd(id[MemoryId.Length..], 0);
        }
        return new(kept, StringComparer.Ordinal);
    }

    /// <summary>What the list of memories says of one.</summary>
    internal object DescribeMemory(string name, long bytes)
    {
        Client? client;
        lock (clients) clients.TryGetValue(MemoryId + name, out client);
        return new { @object = "memory", id = name, bytes, tokens = client?.Position };
    }

    /// <summary>Writes a memory to the store, for who has its turn. Where that fails, the memory is what the store has. Other sessions
    /// are not kept.</summary>
    internal async Task Keep(string id, Client client, Session session)
    {
        if (store is null || !IsMemory(id)) return;
        string name = id[MemoryId.Length..];
        string? replaces = client.Version;
        client.Version = Client.Unknown;
        try
        {
            client.Version = await store.Write(name, session, client.Known, replaces)
                ?? throw new Refusal(409, "CONFLICT", "another service wrote the memory meanwhile, and nothing of this request is kept: send it again");
        }
        catch (ObjectDisposedException)
        {
            // it was deleted
        }
        catch (Exception e) when (e is InfiniException or IOException or System.Data.Common.DbException)
        {
            Log?.Invoke("error", new() { ["message"] = "a memory could not be saved", ["memory"] = name, ["error"] = e.Message });
            throw new Refusal(503, "NOT_KEPT", "the memory could not be kept, and is what its store has");
        }
    }

    /// <summary>Closes a memory, and deletes it from the store.</summary>
    internal async Task Forget(string name)
    {
        Memory(name, false);
        Remove(MemoryId + name); // then nobody saves it any more
        if (store is not null) await store.Delete(name);
    }

    public void Dispose()
    {
        lock (clients)
        {
            foreach (var client in clients.Values) client.Dispose();
        }
    }

    /// <summary>Lets memories go that are stored and were not used for so long, until it is disposed of; zero: none.</summary>
    internal Timer? Expire(TimeSpan idle) => idle == TimeSpan.Zero ? null : new Timer(_ =>
    {
        lock (clients)
        {
            while (MakeRoom(DateTime.UtcNow - idle)) { }
        }
    }, null, idle, idle / 4);

    // Lets the memory go that was used the longest ago, and before a moment, of those that are stored and free.
    private bool MakeRoom(DateTime before)
    {
        if (store is not { Rereads: true }) return false;
        foreach (var (id, client) in clients.OrderBy(entry => entry.Value.Used))
        {
            if (!IsMemory(id) || client.Used > before || !client.TakeForGood()) continue;
            clients.Remove(id);
            client.Dispose();
            return true;
        }
        return false;
    }

    private static bool IsMemory(string id) => id.StartsWith(MemoryId, StringComparison.Ordinal);

    [GeneratedRegex(@"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\z")]
    private static partial Regex MemoryName();
}
