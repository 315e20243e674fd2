using System.Data.Common;
using Infini;
using Microsoft.Data.Sqlite;
using Npgsql;

/// <summary>Keeps memories in a table of SQLite or PostgreSQL, which the services in the other languages read too.</summary>
internal sealed class DatabaseMemories : IMemoryStore
{
    private const string Create = """
        CREATE TABLE IF NOT EXISTS infini_store (
          name TEXT PRIMARY KEY, version TEXT NOT NULL, known TEXT NOT NULL, snapshot BYTEA NOT NULL)
        """;
    private const string All = "SELECT name, length(snapshot), known FROM infini_store";
    private const string Insert = """
        INSERT INTO infini_store (name, version, known, snapshot) VALUES (@name, @version, @known, @snapshot) ON CONFLICT (name) DO NOTHING
        """;
    private const string Update = """
        UPDATE infini_store SET version = @version, known = @known, snapshot = @snapshot WHERE name = @name AND version = @replaces
        """;

    private readonly DbDataSource source;

    /// <param name="store">sqlite:PATH, or a URL of PostgreSQL: postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETER=VALUE.</param>
    internal DatabaseMemories(string store)
    {
        source = store.StartsWith("sqlite:", StringComparison.Ordinal)
            ? SqliteFactory.Instance.CreateDataSource(new SqliteConnectionStringBuilder { DataSource = store["sqlite:".Length..] }.ToString())
            : NpgsqlDataSource.Create(ConnectionOf(new Uri(store)));
        try
        {
            Do(Create, command => command.ExecuteNonQuery());
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.UniqueViolation)
        {
            // another service has made it meanwhile
        }
    }

    public bool Rereads => true;

    public Task<Dictionary<string, (long Bytes, Func<string> Beside)>> List() => Task.FromResult(Do(All, command =>
    {
        var all = new Dictionary<string, (long, Func<string>)>();
        using var rows = command.ExecuteReader();
        while (rows.Read())
        {
            string beside = rows.GetString(2);
            all.Add(rows.GetString(0), (rows.GetInt32(1), () => beside));
        }
        return all;
    }));

    public string? Version(string name) =>
        Do("SELECT version FROM infini_store WHERE name = @name", command => (string?)command.ExecuteScalar(), ("name", name));

    public Task<(string Beside, string Version)?> Read(string name, Session session) => Task.Run<(string, string)?>(() =>
    {
        var kept = Do("SELECT known, version, snapshot FROM infini_store WHERE name = @name", command =>
        {
            using var rows = command.ExecuteReader();
            return rows.Read() ? (rows.GetString(0), rows.GetString(1), rows.GetFieldValue<byte[]>(2)) : ((string, string, byte[])?)null;
        }, ("name", name));
        if (kept is not var (beside, version, snapshot)) return null;
        session.Restore(snapshot);
        return (beside, version);
    });

    public Task<string?> Write(string name, Session session, string beside, string? replaces) => Task.Run(() =>
    {
        string version = Guid.NewGuid().ToString("N");
        int changed = Do(replaces is null ? Insert : Update, command => command.ExecuteNonQuery(), ("name", name), ("version", version),
            ("known", beside), ("snapshot", session.Snapshot(name: name, note: beside)), ("replaces", replaces ?? ""));
        return changed == 1 || Version(name) == version ? version : null; // the latter where it was done twice
    });

    public Task Delete(string name) => Task.FromResult(
        Do("DELETE FROM infini_store WHERE name = @name", command => command.ExecuteNonQuery(), ("name", name)));

    // Once more where the database had hung up; no statement has another effect the second time.
    private T Do<T>(string text, Func<DbCommand, T> run, params (string Name, object Value)[] values)
    {
        for (int tries = 1; ; ++tries)
        {
            try
            {
                using var command = source.CreateCommand(text);
                foreach (var (name, value) in values)
                {
                    var parameter = command.CreateParameter();
                    (parameter.ParameterName, parameter.Value) = ("@" + name, value);
                    command.Parameters.Add(parameter);
                }
                return run(command);
            }
            catch (NpgsqlException e) when (e.IsTransient && tries == 1)
            {
            }
        }
    }

    private static string ConnectionOf(Uri url)
    {
        string[] user = [.. url.UserInfo.Split(':', 2).Select(Uri.UnescapeDataString)];
        var connection = new NpgsqlConnectionStringBuilder { Host = url.Host, Port = url.IsDefaultPort ? 5432 : url.Port };
        if (user[0] != "") connection.Username = user[0];
        if (user.Length > 1) connection.Password = user[1];
        if (url.AbsolutePath.Length > 1) connection.Database = Uri.UnescapeDataString(url.AbsolutePath[1..]);
        foreach (string pair in url.Query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] parts = pair.Split('=', 2);
            connection[Uri.UnescapeDataString(parts[0])] = Uri.UnescapeDataString(parts[^1]);
        }
        return connection.ToString();
    }
}
