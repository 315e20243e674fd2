using System.Text.Json;
using Npgsql;
using Orleans.Runtime;

/// <summary>The silos of the cluster in PostgreSQL. Each change makes a new version of the whole table, and is refused where it
/// is not made to the version that was read; so a row needs no version of its own.</summary>
internal sealed class Membership(Database database) : IMembershipTable
{
    private const string Read = """
        SELECT version, alive, entry FROM infini_cluster LEFT JOIN infini_silos ON address = @address OR @address = ''
        """;
    private const string Next = "WITH next AS (UPDATE infini_cluster SET version = @version WHERE version = @version - 1 RETURNING version) ";
    private const string Insert = Next + """
        INSERT INTO infini_silos SELECT @address, @alive, @entry FROM next
        """;
    private const string Update = Next + """
        UPDATE infini_silos SET alive = greatest(alive, @alive), entry = @entry FROM next WHERE address = @address
        """;
    private const string Alive = "UPDATE infini_silos SET alive = @alive WHERE address = @address";
    private const string Clean = "DELETE FROM infini_silos WHERE alive < @alive AND entry::json->>'Status' = @dead";

    public Task InitializeMembershipTable(bool tryInitTableVersion) => Task.CompletedTask; // the tables were made

    public Task<MembershipTableData> ReadAll() => Rows("");

    public Task<MembershipTableData> ReadRow(SiloAddress key) => Rows(key.ToParsableString());

    public Task<bool> InsertRow(MembershipEntry entry, TableVersion tableVersion) => Change(Insert, entry, tableVersion);

    public Task<bool> UpdateRow(MembershipEntry entry, string etag, TableVersion tableVersion) => Change(Update, entry, tableVersion);

    public Task UpdateIAmAlive(MembershipEntry entry) => database.Once(Alive, command => command.ExecuteNonQueryAsync(),
        ("address", entry.SiloAddress.ToParsableString()), ("alive", Time(entry.IAmAliveTime)));

    public Task CleanupDefunctSiloEntries(DateTimeOffset beforeDate) => database.Once(Clean, command => command.ExecuteNonQueryAsync(),
        ("alive", beforeDate.UtcDateTime), ("dead", nameof(SiloStatus.Dead)));

    public Task DeleteMembershipTableEntries(string clusterId) => database.Once("DELETE FROM infini_silos", command => command.ExecuteNonQueryAsync());

    private Task<MembershipTableData> Rows(string address) => database.Once(Read, async command =>
    {
        var silos = new List<Tuple<MembershipEntry, string>>();
        int version = 0;
        await using var rows = await command.ExecuteReaderAsync();
        while (await rows.ReadAsync())
        {
            version = rows.GetInt32(0);
            if (rows.IsDBNull(1)) continue;
            var entry = JsonSerializer.Deserialize<Row>(rows.GetString(2))!.Entry();
            entry.IAmAliveTime = rows.GetDateTime(1);
            silos.Add(Tuple.Create(entry, ""));
        }
        return new MembershipTableData(silos, new TableVersion(version, version.ToString()));
    }, ("address", address));

    private async Task<bool> Change(string statement, MembershipEntry entry, TableVersion version)
    {
        try
        {
            return await database.Once(statement, command => command.ExecuteNonQueryAsync(), ("version", version.Version),
                ("address", entry.SiloAddress.ToParsableString()), ("alive", Time(entry.IAmAliveTime)),
                ("entry", JsonSerializer.Serialize(Row.Of(entry)))) == 1;
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.UniqueViolation)
        {
            return false; // the silo is there
        }
    }

    private static DateTime Time(DateTime time) => DateTime.SpecifyKind(time, DateTimeKind.Utc);

    // A row's own columns are what statements need; the rest is JSON.
    private sealed record Row(string Address, string Status, string Host, string Name, int ProxyPort, DateTime Started, List<Vote> Suspects)
    {
        internal static Row Of(MembershipEntry entry) => new(
            entry.SiloAddress.ToParsableString(), entry.Status.ToString(), entry.HostName, entry.SiloName, entry.ProxyPort, entry.StartTime,
            [.. (entry.SuspectTimes ?? []).Select(vote => new Vote(vote.Item1.ToParsableString(), vote.Item2))]);

        internal MembershipEntry Entry() => new()
        {
            SiloAddress = SiloAddress.FromParsableString(Address), Status = Enum.Parse<SiloStatus>(Status), HostName = Host, SiloName = Name,
            ProxyPort = ProxyPort, StartTime = Started,
            SuspectTimes = [.. Suspects.Select(vote => Tuple.Create(SiloAddress.FromParsableString(vote.Silo), vote.Time))],
        };
    }

    private sealed record Vote(string Silo, DateTime Time);
}
