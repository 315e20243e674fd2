using System.Text.RegularExpressions;
using Infini;

/// <summary>The sessions of the service, of which some are memories: sessions with a name, which are kept in a store after each
/// request where there is one, and then make room for others.</summary>
internal sealed partial class Sessions(Model model, long most, long mostMemories, IMemoryStore? store) : IDisposable
{
    internal const string MemoryId = "memory:"; // before a memory's name

    private const int Tries = 50; // a second in all: a memory's request may have answered and not quite ended

    private static readonly TimeSpan BetweenTries = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan CountAgain = TimeSpan.FromSeconds(10);

    internal Action<string, Exception>? LogError { get; set; }

    private readonly Dictionary<string, Client> clients = [];
    private readonly object opening = new(); // of memories
    private volatile Counted counted = new(DateTime.MinValue, 0);
    private int keeping; // memories that are being written; less than 0: no other may be

    private sealed record Counted(DateTime When, int Memories);

    /// <summary>Takes a session in, which is disposed of where there is no room.</summary>
    /// <param name="id">By which it is found.</param>
    /// <param name="session">Belongs to the client then.</param>
    internal async Task<Client> Add(string id, Session session)
    {
        var client = new Client(session);
        try
        {
            return await WithRoom(() => TryAdd(id, client));
        }
        catch
        {
            client.Dispose();
            throw;
        }
    }

    // Null: there is no room for it now.
    private Client? TryAdd(string id, Client client)
    {
        lock (clients)
        {
            return HasRoom() ? clients[id] = client : null;
        }
    }

    private bool HasRoom()
    {
        lock (clients) return clients.Count < most || MakeRoom(DateTime.UtcNow, false);
    }

    // Tries what needs room for a session until there is some.
    private async Task<Client> WithRoom(Func<Client?> open)
    {
        for (int tries = 0; tries < Tries; ++tries)
        {
            if (open() is { } client) return client;
            lock (clients)
            {
                if (store is null || !clients.Keys.Any(IsMemory)) break;
            }
            if (tries % 10 == 0) store.MakeRoom();
            await Task.Delay(BetweenTries);
        }
        throw new Refusal(429, "TOO_MANY_SESSIONS", "the service has as many sessions as it may have; delete one");
    }

    internal Session NewSession() => model.CreateSession(new InfiniSessionOptions { UnknownText = "skip" });

    internal Client Of(string id)
    {
        lock (clients)
        {
            if (!clients.TryGetValue(id, out var client) || !Exists(id, client))
                throw new Refusal(404, "NOT_FOUND", "there is no such session");
            client.Used = DateTime.UtcNow;
            return client;
        }
    }

    /// <summary>One that has no name.</summary>
    internal Client Nameless(string id)
    {
        var client = Of(id);
        return !IsMemory(id) ? client : throw new Refusal(405, "METHOD_NOT_ALLOWED",
            "of a memory only `cancel` goes by /sessions; all else goes by /v1/memories");
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
        lock (clients)
        {
            return clients.Where(entry => Exists(entry.Key, entry.Value))
                .Select(entry => entry.Value.Describe(entry.Key)).OfType<object>().ToList();
        }
    }

    /// <summary>Those of all sessions.</summary>
    internal long Bytes
    {
        get { lock (clients) return clients.Values.Sum(client => client.Bytes); }
    }

    /// <summary>Has its turn with the memory of that name.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="create">Whether it may be a new one.</param>
    /// <param name="context">The request.</param>
    /// <param name="ending">Ends it.</param>
    /// <param name="use">What it does.</param>
    internal async Task<T> Use<T>(string name, bool create, HttpContext context, CancellationToken ending,
                                  Func<Client, Session, CancellationToken, Task<T>> use)
    {
        var client = await Memory(name, create);
        try
        {
            return await client.Use(context, ending, (session, cancelled) =>
                create || client.Filled ? use(client, session, cancelled) : throw NoMemory());
        }
        finally
        {
            Release(client);
        }
    }

    internal static Refusal NoMemory() => new(404, "NOT_FOUND", "there is no memory of that name");

    private void Release(Client client)
    {
        lock (clients) --client.Users;
    }

    // The memory of that name, which is read from the store when its turn comes, and is then released.
    private async Task<Client> Memory(string name, bool create)
    {
        CheckName(name);
        var client = create || store is null ? AtHand(name, false) : null;
        if (client is not null) return client;
        bool stored = store?.Version(name) is not null;
        if (!stored && !create) throw NoMemory();
        return await WithRoom(() =>
        {
            lock (opening) return Open(name, stored);
        });
    }

    // The one of that name, which is made where it is not at hand; null: there is no room for it now.
    private Client? Open(string name, bool stored)
    {
        var client = AtHand(name, stored);
        if (client is not null || !HasRoom()) return client;
        if (!stored && Memories().GetAwaiter().GetResult().Count >= mostMemories)
            throw new Refusal(429, "TOO_MANY_MEMORIES", "the service has as many memories as it may have; delete one");
        client = AtHand(name, true);
        if (client is not null) return client;
        client = new Client(NewSession())
        {
            Renew = store is null ? null : (client, session) => Renew(name, client, session),
            Users = 1,
        };
        if (TryAdd(MemoryId + name, client) is null)
        {
            client.Dispose();
            return null;
        }
        return client;
    }

    // Of those that a refused request has left empty, too, where that is wanted.
    private Client? AtHand(string name, bool empty)
    {
        lock (clients)
        {
            string id = MemoryId + name;
            if (!clients.TryGetValue(id, out var client) || !empty && !Exists(id, client)) return null;
            ++client.Users;
            return client;
        }
    }

    // Puts a memory where the store has it, which another service may have written, or deleted, since.
    private async Task Renew(string name, Client client, Session session)
    {
        if (store!.Version(name) == client.Version) return;
        client.Version = Client.Unknown;
        var kept = await store.Read(name, session);
        if (kept is null) session.Reset();
        client.Filled = kept is not null;
        client.Beside = kept?.Beside ?? "";
        client.Version = kept?.Version;
    }

    /// <summary>Refuses what cannot be a memory's name.</summary>
    internal static void CheckName(string name)
    {
        if (!MemoryName().IsMatch(name))
            throw Refusal.Invalid($"'{name}' cannot be the name of a memory: 1 to 64 of A-Z a-z 0-9 . _ -, and no dot first");
    }

    /// <summary>All memories by name, with the bytes of their snapshots, or sessions where there are none, and what is
    /// beside these.</summary>
    internal async Task<SortedDictionary<string, (long Bytes, Func<string> Beside)>> Memories()
    {
        var kept = store is null ? [] : await store.List();
        lock (clients)
        {
            foreach (var (id, client) in clients)
            {
                if (IsMemory(id) && Exists(id, client))
                    kept.TryAdd(id[MemoryId.Length..], (client.Bytes, () => client.Beside));
            }
        }
        return new(kept, StringComparer.Ordinal);
    }

    /// <summary>How many memories there are, or were some seconds ago; null: the store does not say.</summary>
    internal async Task<int?> CountMemories()
    {
        try
        {
            if (store is { Rereads: true }) store.Version("_"); // whether it is there
            if (store is null || DateTime.UtcNow - counted.When > CountAgain)
                counted = new(DateTime.UtcNow, (await Memories()).Count);
            return counted.Memories;
        }
        catch (Exception e) when (Refusal.IsOfStore(e))
        {
            return null;
        }
    }

    /// <summary>What the list of memories says of one.</summary>
    internal object DescribeMemory(string name, (long Bytes, Func<string> Beside) kept)
    {
        Client? client;
        lock (clients) clients.TryGetValue(MemoryId + name, out client);
        return new { @object = "memory", id = name, bytes = kept.Bytes, tokens = client?.Position,
                     note = Client.Parts(kept.Beside()).Note };
    }

    /// <summary>Writes a memory to the store, for who has its turn. Where that fails, the memory is what the store
    /// has.</summary>
    internal async Task Keep(string name, Client client, Session session)
    {
        if (store is null)
        {
            client.Filled = true;
            return;
        }
        string? replaces = client.Version;
        try
        {
            if (Interlocked.Increment(ref keeping) < 0) throw Refusal.Ending();
            client.Version = Client.Unknown;
            client.Version = await store.Write(name, session, client.Beside, replaces)
                ?? throw new Refusal(409, "CONFLICT", "another service wrote the memory meanwhile, and nothing of this request is kept: send it again");
            client.Filled = true;
        }
        catch (ObjectDisposedException)
        {
            // it was deleted
        }
        catch (Exception e) when (e is InfiniException || Refusal.IsOfStore(e))
        {
            LogError?.Invoke("a memory could not be saved", e);
            throw new Refusal(503, "NOT_KEPT", "the memory could not be kept, and is what its store has");
        }
        finally
        {
            Interlocked.Decrement(ref keeping);
        }
    }

    /// <summary>Waits for memories that are being written, however long that takes; then no other is.</summary>
    internal async Task Written()
    {
        while (Interlocked.CompareExchange(ref keeping, int.MinValue, 0) != 0) await Task.Delay(BetweenTries);
    }

    /// <summary>Closes a memory, and deletes it from the store.</summary>
    internal async Task Forget(string name)
    {
        Release(await Memory(name, false));
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

    /// <summary>Lets memories go that are stored, and closes nameless sessions, that were not used for so long, until
    /// it is disposed of; zero: none.</summary>
    internal Timer? Expire(TimeSpan idle) => idle == TimeSpan.Zero ? null : new Timer(_ =>
    {
        lock (clients)
        {
            while (MakeRoom(DateTime.UtcNow - idle, true)) { }
        }
    }, null, idle, idle / 4);

    // Lets the one go that was used the longest ago, and before a moment, of those that may.
    private bool MakeRoom(DateTime before, bool idle)
    {
        foreach (var (id, client) in clients.OrderBy(entry => entry.Value.Used))
        {
            if (!MayGo(id, client, idle) || client.Used > before || !client.TakeForGood()) continue;
            clients.Remove(id);
            client.Dispose();
            return true;
        }
        return false;
    }

    // Whether nobody uses it, and nothing is lost with it, or it is idle, which ends sessions without a name.
    private bool MayGo(string id, Client client, bool idle) =>
        client.Users == 0 && (IsMemory(id) ? store?.Rereads ?? !client.Filled : idle);

    // Whether it is more than the memory that a refused request has left empty.
    private static bool Exists(string id, Client client) => !IsMemory(id) || client.Filled || client.Users > 0;

    private static bool IsMemory(string id) => id.StartsWith(MemoryId, StringComparison.Ordinal);

    [GeneratedRegex(@"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\z")]
    private static partial Regex MemoryName();
}
