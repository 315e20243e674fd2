using System.Data.Common;
using Infini.Extensions.AI;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.AI;
using Npgsql;
using Xunit;
using static Support;

/// <summary>What every store promises. INFINI_POSTGRES says how a PostgreSQL is reached, if there is one.</summary>
public sealed class StoreTests : IDisposable
{
    private readonly Folder folder = new();

    public void Dispose() => folder.Dispose();

    /// <summary>A test that needs PostgreSQL.</summary>
    private sealed class PostgresFactAttribute : FactAttribute
    {
        internal static readonly string? Reached = Environment.GetEnvironmentVariable("INFINI_POSTGRES");

        public PostgresFactAttribute() => Skip = Reached is null ? "there is no PostgreSQL" : null;
    }

    [Fact]
    public async Task AFolderIsAStore()
    {
        string path = Path.Combine(folder.Path, "deep", "er");
        await IsAStore(() => new FolderConversationStore(path));
        await Assert.ThrowsAsync<ArgumentException>(
            async () => await new FolderConversationStore(path).ReadAsync(new string('x', 181)));
        Assert.All(Directory.GetFileSystemEntries(path),
                   // Nothing is left over.
                   file => Assert.True(file.EndsWith(".snapshot") || file.EndsWith(".lock"), file));
    }

    [Fact]
    public async Task SqliteIsAStore()
    {
        string file = Path.Combine(folder.Path, "conversations.db");
        await using var source = SqliteFactory.Instance.CreateDataSource("Data Source=" + file);
        await IsAStore(() => new DatabaseConversationStore(source));
    }

    [PostgresFact]
    public async Task PostgresIsAStore()
    {
        await using var source = NpgsqlDataSource.Create(PostgresFactAttribute.Reached!);
        await IsAStore(() => new DatabaseConversationStore(source));
    }

    private static async Task IsAStore(Func<IConversationStore> make)
    {
        var store = make();
        async Task Late(string id, string? replaces) => await Assert.ThrowsAsync<ConversationConflictException>(
            async () => await make().WriteAsync(id, new byte[] { 9 }, replaces));
        Assert.Null(await store.ReadAsync("a"));
        Assert.False(await store.DeleteAsync("a"));
        await Late("a", "of nothing");
        string first = await store.WriteAsync("a", new byte[] { 1 }, null);
        await Late("a", null);
        string second = await store.WriteAsync("a", new byte[] { 2, 0, 255 }, first);
        await Late("a", first);
        Assert.Equal(new StoredConversation(second, null), await make().ReadAsync("a", second));
        var read = await make().ReadAsync("a", first);
        Assert.Equal(second, read!.Version);
        Assert.Equal([2, 0, 255], read.Snapshot!.Value.ToArray());
        Assert.True(await store.DeleteAsync("a"));
        await Late("a", second);
        Assert.NotEqual(first, await store.WriteAsync("a", new byte[] { 4 }, null));
        foreach (string name in new[] { "..", "a/../b", "*", "a.b", "'; --", "\u00e9\ud83d\ude00" })
        {
            await store.WriteAsync(name, System.Text.Encoding.UTF8.GetBytes(name), null);
            Assert.Equal(name,
                System.Text.Encoding.UTF8.GetString((await make().ReadAsync(name))!.Snapshot!.Value.Span));
        }
        await Assert.ThrowsAsync<ArgumentException>(async () => await store.ReadAsync(""));

        // Of writers that go on from one version, one wins; the same where there is none.
        Assert.Equal(1, await Winners("race", await store.WriteAsync("race", new byte[] { 0 }, null)));
        Assert.Equal(1, await Winners("start", null));
        async Task<int> Winners(string id, string? version) => (await Task.WhenAll(Enumerable.Range(0, 8).Select(i =>
            Task.Run(async () =>
        {
            try
            {
                await make().WriteAsync(id, new byte[] { (byte)i }, version);
                return 1;
            }
            catch (ConversationConflictException)
            {
                return 0;
            }
        })))).Sum();

        // And a client remembers by it.
        var heard = new List<string>();
        foreach (string words in new[] { "I am Tom", "Who am I?" })
        {
            using var client = new InfiniChatClient(Shared, Options(), make());
            heard.Add((await client.GetResponseAsync(User(words), In("tom"))).Text);
        }
        Assert.Equal(Answers(Says("I am Tom"), Says("Who am I?")), heard);
    }
}
