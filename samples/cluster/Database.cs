using Npgsql;

/// <summary>Another silo has taken the memory over, or it was deleted: what this one has of it counts no more.</summary>
internal sealed class LostException(string name) : Exception($"memory '{name}' is no longer this silo's");

/// <summary>What a silo finds when it takes a memory over.</summary>
/// <param name="Epoch">By which the database knows the silo's calls from those of the silos before it.</param>
/// <param name="Snapshot">Null where none was taken yet.</param>
/// <param name="Beside">What the snapshot was taken with: <see cref="Client.Beside"/>.</param>
/// <param name="Last">The number of the last feed, in the snapshot or behind it.</param>
/// <param name="Feeds">Those behind the snapshot.</param>
internal sealed record Taken(long Epoch, byte[]? Snapshot, string Beside, long Last, List<byte[]> Feeds);

/// <summary>Memories in PostgreSQL: a snapshot each, and the feeds behind it.</summary>
/// <remarks>A memory belongs to the silo that took it over last, which has an epoch of its own; a statement of an older epoch
/// changes nothing. Each call is one transaction, and is repeated where the database is away for a moment, since a second time
/// it has no other effect.</remarks>
internal sealed class Database(NpgsqlDataSource source)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30); // with a database that is away

    private const string Tables = """
        SELECT pg_advisory_xact_lock(hashtext('infini'));
        CREATE SEQUENCE IF NOT EXISTS infini_epochs;
        CREATE TABLE IF NOT EXISTS infini_memories (
          name TEXT PRIMARY KEY, epoch BIGINT NOT NULL, fed BIGINT NOT NULL DEFAULT 0, known TEXT NOT NULL DEFAULT '', snapshot BYTEA);
        CREATE TABLE IF NOT EXISTS infini_feeds (
          name TEXT REFERENCES infini_memories ON DELETE CASCADE, number BIGINT, key TEXT NOT NULL,
          fed_at TIMESTAMPTZ NOT NULL DEFAULT now(), text BYTEA, PRIMARY KEY (name, number), UNIQUE (name, key));
        CREATE TABLE IF NOT EXISTS infini_cluster (id BOOLEAN PRIMARY KEY, version INTEGER NOT NULL);
        INSERT INTO infini_cluster VALUES (true, 0) ON CONFLICT DO NOTHING;
        CREATE TABLE IF NOT EXISTS infini_silos (address TEXT PRIMARY KEY, alive TIMESTAMPTZ NOT NULL, entry TEXT NOT NULL)
        """;
    private const string Make = """
        INSERT INTO infini_memories (name, epoch) VALUES (@name, 0) ON CONFLICT DO NOTHING
        """;
    private const string Take = """
        UPDATE infini_memories SET epoch = nextval('infini_epochs') WHERE name = @name RETURNING epoch, fed, known, snapshot
        """;
    private const string FeedsBehind = """
        SELECT number, text FROM infini_feeds WHERE name = @name AND number > @fed ORDER BY number
        """;
    // The lock keeps the next silo from taking the memory over until the feed is there for it to read.
    private const string Append = """
        WITH mine AS (SELECT FROM infini_memories WHERE name = @name AND epoch = @epoch FOR SHARE),
             before AS (SELECT number FROM infini_feeds WHERE name = @name AND key = @key),
             added AS (INSERT INTO infini_feeds (name, number, key, text)
                       SELECT @name, @number, @key, @text FROM mine WHERE NOT EXISTS (SELECT FROM before) RETURNING number)
        SELECT number FROM added UNION ALL SELECT number FROM before WHERE EXISTS (SELECT FROM mine)
        """;
    // A feed that is in the snapshot leaves its key behind for a day, by which its repetition is known.
    private const string Save = """
        WITH saved AS (UPDATE infini_memories SET snapshot = @snapshot, known = @known, fed = @number
                       WHERE name = @name AND epoch = @epoch RETURNING fed),
             emptied AS (UPDATE infini_feeds SET text = NULL FROM saved WHERE name = @name AND number <= fed AND text IS NOT NULL),
             forgotten AS (DELETE FROM infini_feeds USING saved
                           WHERE name = @name AND text IS NULL AND fed_at < now() - interval '1 day')
        SELECT fed FROM saved
        """;
    private const string Mine = "SELECT epoch FROM infini_memories WHERE name = @name AND epoch = @epoch";
    private const string Remove = "DELETE FROM infini_memories WHERE name = @name AND epoch = @epoch RETURNING epoch";
    private const string All = """
        SELECT name, coalesce(length(snapshot), 0), known FROM infini_memories AS one
        WHERE snapshot IS NOT NULL OR EXISTS (SELECT FROM infini_feeds WHERE name = one.name)
        """;

    /// <summary>Makes the tables that are not there, those of <see cref="Membership"/> too.</summary>
    internal Task MakeTables() => Do(Tables, async command => await command.ExecuteNonQueryAsync());

    /// <summary>Makes a memory belong to the caller.</summary>
    /// <returns>Null where there is none of that name, and none was to be made.</returns>
    internal async Task<Taken?> TakeOver(string name, bool create)
    {
        if (create) await Do(Make, command => command.ExecuteNonQueryAsync(), ("name", name));
        var found = await Do(Take, async command =>
        {
            await using var rows = await command.ExecuteReaderAsync();
            return !await rows.ReadAsync() ? default : (Epoch: rows.GetInt64(0), Fed: rows.GetInt64(1),
                Beside: rows.GetString(2), Snapshot: rows.IsDBNull(3) ? null : rows.GetFieldValue<byte[]>(3));
        }, ("name", name));
        if (found.Epoch == 0) return null;
        var feeds = new List<byte[]>();
        long last = found.Fed;
        await Do(FeedsBehind, async command =>
        {
            feeds.Clear();
            await using var rows = await command.ExecuteReaderAsync();
            for (; await rows.ReadAsync(); feeds.Add(rows.GetFieldValue<byte[]>(1))) last = rows.GetInt64(0);
            return 0;
        }, ("name", name), ("fed", found.Fed));
        return new(found.Epoch, found.Snapshot, found.Beside, last, feeds);
    }

    /// <summary>Writes a feed behind the others, unless there is one with that key.</summary>
    /// <returns>The number of the one with that key.</returns>
    /// <exception cref="LostException">Nothing was written.</exception>
    internal Task<long> AddFeed(string name, long epoch, long number, string key, byte[] text) => Number(Append, name,
        ("name", name), ("epoch", epoch), ("number", number), ("key", key), ("text", text));

    /// <summary>Replaces a snapshot by one that holds the feeds up to a number.</summary>
    /// <exception cref="LostException">Nothing has changed.</exception>
    internal Task Replace(string name, long epoch, long number, byte[] snapshot, string beside) => Number(Save, name,
        ("name", name), ("epoch", epoch), ("number", number), ("snapshot", snapshot), ("known", beside));

    /// <summary>Makes sure that the memory still belongs to the caller.</summary>
    /// <exception cref="LostException">It does not.</exception>
    internal Task Confirm(string name, long epoch) => Number(Mine, name, ("name", name), ("epoch", epoch));

    /// <summary>Deletes a memory with its feeds.</summary>
    internal Task Delete(string name, long epoch) => Do(Remove, command => command.ExecuteNonQueryAsync(), ("name", name), ("epoch", epoch));

    /// <summary>All memories that hold something, by name, with the bytes of their snapshots and what is beside
    /// these.</summary>
    internal Task<Dictionary<string, (long Bytes, Func<string> Beside)>> List() => Do(All, async command =>
    {
        var all = new Dictionary<string, (long, Func<string>)>();
        await using var rows = await command.ExecuteReaderAsync();
        while (await rows.ReadAsync())
        {
            string beside = rows.GetString(2);
            all.Add(rows.GetString(0), (rows.GetInt32(1), () => beside));
        }
        return all;
    });

    private Task<long> Number(string text, string name, params (string, object)[] values) => Do(text, async command =>
        await command.ExecuteScalarAsync() as long? ?? throw new LostException(name), values);

    /// <summary>Does what a statement says.</summary>
    internal async Task<T> Once<T>(string text, Func<NpgsqlCommand, Task<T>> run, params (string Name, object Value)[] values)
    {
        await using var command = source.CreateCommand(text);
        foreach (var (name, value) in values) command.Parameters.AddWithValue(name, value);
        return await run(command);
    }

    // Again, where the database was away; the first time may have done it, too.
    private async Task<T> Do<T>(string text, Func<NpgsqlCommand, Task<T>> run, params (string, object)[] values)
    {
        for (long begun = Environment.TickCount64; ; await Task.Delay(100))
        {
            try
            {
                return await Once(text, run, values);
            }
            catch (NpgsqlException e) when (IsAway(e) && Environment.TickCount64 - begun < Patience.TotalMilliseconds)
            {
            }
        }
    }

    private static bool IsAway(NpgsqlException e) => e is PostgresException { SqlState: var state }
        ? state.StartsWith("57P", StringComparison.Ordinal) || state.StartsWith("08", StringComparison.Ordinal) : true;
}
