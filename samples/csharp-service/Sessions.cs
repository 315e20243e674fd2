using System.Text.RegularExpressions;
using Infini;

/// <summary>The sessions of the service, of which some are memories: sessions with a name, which are kept in a folder after each
/// request where there is one, and then make room for others.</summary>
internal sealed partial class Sessions(Model model, long most, long mostMemories, string? store) : IDisposable
{
    internal const string MemoryId = "memory:"; // before a memory's name

    private const int Tries = 50; // a second in all: a memory's request may have answered and not quite ended

    internal Action<string, Dictionary<string, object>>? Log { get; set; }

    private readonly Dictionary<string, Client> clients = [];
    private readonly object opening = new(); // of memories

    /// <summary>Takes a session in, which is disposed of where there is no room.</summary>
    internal Client Add(string id, Session session)
    {
        var client = new Client(session);
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

    /// <summary>The memory of that name, from the folder where it is not at hand.</summary>
    internal Client Memory(string name, bool create)
    {
        if (!MemoryName().IsMatch(name))
            throw Refusal.Invalid($"'{name}' cannot be the name of a memory: 1 to 64 of A-Z a-z 0-9 . _ -, and no dot first");
        lock (opening)
        {
            lock (clients)
            {
                if (clients.TryGetValue(MemoryId + name, out var client))
                {
                    client.Used = DateTime.UtcNow;
                    return client;
                }
            }
            bool stored = store is not null && File.Exists(FileOf(name));
            if (!stored && !create) throw new Refusal(404, "NOT_FOUND", "there is no memory of that name");
            if (!stored && Memories().Count >= mostMemories)
                throw new Refusal(429, "TOO_MANY_MEMORIES", "the service has as many memories as it may have; delete one");
            var session = NewSession();
            try
            {
                if (stored) session.Restore(FileOf(name));
                string known = stored ? InfiniLibrary.InspectSnapshot(FileOf(name)).Note : "";
                var opened = Add(MemoryId + name, session);
                opened.Known = known;
                return opened;
            }
            catch
            {
                session.Dispose();
                throw;
            }
        }
    }

    internal List<string> Memories()
    {
        IEnumerable<string> names;
        lock (clients)
        {
            names = clients.Keys.Where(IsMemory).Select(id => id[MemoryId.Length..]).ToList();
        }
        if (store is not null)
            names = names.Union(Directory.EnumerateFiles(store, "*.snapshot").Select(file => Path.GetFileNameWithoutExtension(file)));
        return [.. names.Order(StringComparer.Ordinal)];
    }

    /// <summary>What the list of memories says of one.</summary>
    internal object DescribeMemory(string name)
    {
        Client? client;
        lock (clients) clients.TryGetValue(MemoryId + name, out client);
        var file = store is null ? null : new FileInfo(FileOf(name));
        return new { @object = "memory", id = name, bytes = file is { Exists: true } ? file.Length : 0, tokens = client?.Position };
    }

    /// <summary>Writes a memory to the folder, for who has its turn. Other sessions are not kept.</summary>
    internal void Keep(string id, Client client, Session session)
    {
        if (store is null || !IsMemory(id)) return;
        string name = id[MemoryId.Length..];
        try
        {
            session.Save(FileOf(name), name: name, note: client.Known);
        }
        catch (InfiniException e)
        {
            Log?.Invoke("error", new() { ["message"] = "a memory could not be saved", ["memory"] = name, ["error"] = e.Message });
        }
        catch (ObjectDisposedException)
        {
            // it was deleted
        }
    }

    /// <summary>Closes a memory, and deletes it from the folder.</summary>
    internal void Forget(string name)
    {
        Memory(name, false);
        Remove(MemoryId + name); // then nobody saves it any more
        if (store is not null) File.Delete(FileOf(name));
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
        if (store is null) return false;
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

    private string FileOf(string name) => Path.Combine(store!, name + ".snapshot");

    [GeneratedRegex(@"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\z")]
    private static partial Regex MemoryName();
}
