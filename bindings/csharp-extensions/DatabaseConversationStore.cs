using System.Data.Common;

namespace Infini.Extensions.AI;

/// <summary>Keeps conversations in a table of a database that speaks PostgreSQL's or SQLite's SQL, through its own
/// ADO.NET driver: <c>new DatabaseConversationStore(NpgsqlDataSource.Create("Host=..."))</c>, or with
/// <c>SqliteFactory.Instance.CreateDataSource("Data Source=conversations.db")</c>.</summary>
/// <remarks>The table is infini_conversations (id, version, snapshot), made by the first call where it is not there. A
/// snapshot is one value, which both databases hold up to a gigabyte.</remarks>
public sealed class DatabaseConversationStore : IConversationStore
{
    private const string Create = """
        CREATE TABLE IF NOT EXISTS infini_conversations (
          id TEXT PRIMARY KEY, version TEXT NOT NULL, snapshot BYTEA NOT NULL)
        """;
    private const string Read = """
        SELECT version, CASE WHEN version = @known THEN NULL ELSE snapshot END FROM infini_conversations WHERE id = @id
        """;
    private const string Insert = """
        INSERT INTO infini_conversations (id, version, snapshot) VALUES (@id, @version, @snapshot)
          ON CONFLICT (id) DO NOTHING
        """;
    private const string Update = """
        UPDATE infini_conversations SET version = @version, snapshot = @snapshot WHERE id = @id AND version = @known
        """;
    private const string Delete = "DELETE FROM infini_conversations WHERE id = @id";

    private readonly DbDataSource source;
    private volatile bool made;

    /// <summary>Names the database.</summary>
    /// <param name="source">Gives connections; is not disposed.</param>
    public DatabaseConversationStore(DbDataSource source)
    {
        ArgumentNullException.ThrowIfNull(source);
        this.source = source;
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The name is empty.</exception>
    /// <exception cref="DbException">As the driver says.</exception>
    public async ValueTask<StoredConversation?> ReadAsync(string id, string? known = null,
                                                          CancellationToken cancellation = default)
    {
        await using var connection = await OpenAsync(id, cancellation).ConfigureAwait(false);
        await using var command = Command(connection, Read, ("@id", id), ("@known", known ?? ""));
        await using var rows = await command.ExecuteReaderAsync(cancellation).ConfigureAwait(false);
        if (!await rows.ReadAsync(cancellation).ConfigureAwait(false)) return null;
        return new(rows.GetString(0), rows.IsDBNull(1) ? (ReadOnlyMemory<byte>?)null : rows.GetFieldValue<byte[]>(1));
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The name is empty.</exception>
    /// <exception cref="DbException">As the driver says.</exception>
    public async ValueTask<string> WriteAsync(string id, ReadOnlyMemory<byte> snapshot, string? replaces,
                                              CancellationToken cancellation = default)
    {
        string version = Guid.NewGuid().ToString("N");
        await using var connection = await OpenAsync(id, cancellation).ConfigureAwait(false);
        await using var command = Command(connection, replaces is null ? Insert : Update,
            ("@id", id), ("@version", version), ("@snapshot", snapshot.ToArray()));
        if (replaces is not null) Add(command, "@known", replaces);
        if (await command.ExecuteNonQueryAsync(cancellation).ConfigureAwait(false) != 1)
            throw new ConversationConflictException(id);
        return version;
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The name is empty.</exception>
    /// <exception cref="DbException">As the driver says.</exception>
    public async ValueTask<bool> DeleteAsync(string id, CancellationToken cancellation = default)
    {
        await using var connection = await OpenAsync(id, cancellation).ConfigureAwait(false);
        await using var command = Command(connection, Delete, ("@id", id));
        return await command.ExecuteNonQueryAsync(cancellation).ConfigureAwait(false) == 1;
    }

    private async Task<DbConnection> OpenAsync(string id, CancellationToken cancellation)
    {
        ArgumentException.ThrowIfNullOrEmpty(id);
        var connection = await source.OpenConnectionAsync(cancellation).ConfigureAwait(false);
        try
        {
            for (int attempt = 1; !made; attempt++)
            {
                try
                {
                    await using var command = Command(connection, Create);
                    await command.ExecuteNonQueryAsync(cancellation).ConfigureAwait(false);
                    made = true;
                }
                catch (DbException) when (attempt == 1)
                {
                    // PostgreSQL fails where two make it at once; then it is there.
                }
            }
            return connection;
        }
        catch
        {
            await connection.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    private static DbCommand Command(DbConnection connection, string text,
                                     params (string Name, object Value)[] parameters)
    {
        var command = connection.CreateCommand();
        command.CommandText = text;
        foreach (var (name, value) in parameters) Add(command, name, value);
        return command;
    }

    private static void Add(DbCommand command, string name, object value)
    {
        var parameter = command.CreateParameter();
        (parameter.ParameterName, parameter.Value) = (name, value);
        command.Parameters.Add(parameter);
    }
}
