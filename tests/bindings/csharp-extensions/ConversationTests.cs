using Infini;
using Infini.Extensions.AI;
using Microsoft.Extensions.AI;
using Xunit;
using static Support;

public class ConversationTests
{
    [Fact]
    public async Task RemembersWhatWasSaidThroughARestart()
    {
        using var folder = new Folder();
        string[] expected = Answers(Says("My name is Ben."), Says("Who am I?"), Says("Sure?"));
        var heard = new List<string>();
        using (var client = Client(folder.Path))
        {
            var first = await client.GetResponseAsync(User("My name is Ben."), In("ben/é*.txt"));
            Assert.Equal("ben/é*.txt", first.ConversationId);
            heard.Add(first.Text);
            var second = await client.GetResponseAsync(User("Who am I?"), In("ben/é*.txt"));
            // What is new, and the turn's end.
            Assert.True(second.Usage!.InputTokenCount < first.Usage!.InputTokenCount * 2);
            heard.Add(second.Text);
        }
        var snapshot = InfiniLibrary.InspectSnapshot(Assert.Single(Directory.GetFiles(folder.Path, "*.snapshot")),
            verify: true);
        Assert.True(snapshot.View.Position > 48);
        using (var client = Client(folder.Path)) heard.Add((await client.GetResponseAsync(User("Sure?"),
            In("ben/é*.txt"))).Text);
        Assert.Equal(expected, heard);
    }

    [Fact]
    public async Task TwoConversationsAtOnceKnowNothingOfEachOther()
    {
        using var folder = new Folder();
        // So that they come from the store too.
        using var client = Client(folder.Path, o => o.ConversationsInMemory = 1);
        async Task<string[]> Talk(string name) =>
        [
            (await client.GetResponseAsync(User("I am " + name), In(name))).Text,
            (await client.GetResponseAsync(User("Who am I?"), In(name))).Text,
            (await client.GetResponseAsync(User("Sure?"), In(name))).Text,
        ];
        var both = await Task.WhenAll(Talk("Tom"), Talk("Lily"));
        Assert.Equal(Answers(Says("I am Tom"), Says("Who am I?"), Says("Sure?")), both[0]);
        Assert.Equal(Answers(Says("I am Lily"), Says("Who am I?"), Says("Sure?")), both[1]);
    }

    [Fact]
    public async Task CallsInOneConversationTakeTurns()
    {
        using var folder = new Folder();
        using var client = Client(folder.Path);
        var responses = await Task.WhenAll(Enumerable.Range(0, 4).Select(i => client.GetResponseAsync(User("Go on"),
            In("one"))));
        long all = responses.Sum(response => response.Usage!.TotalTokenCount!.Value);
        Assert.Equal(all, InfiniLibrary.InspectSnapshot(Assert.Single(Directory.GetFiles(folder.Path,
            "*.snapshot"))).View.Position);
        Assert.Equal(Answers(Says("Go on"), Says("Go on"), Says("Go on"), Says("Go on")).Order(),
            responses.Select(r => r.Text).Order());
    }

    [Fact]
    public async Task ATurnThatFailsLeavesNoTrace()
    {
        using var folder = new Folder();
        using var client = Client(folder.Path);
        using var cancel = new CancellationTokenSource();
        await client.GetResponseAsync(User("I am Tom"), In("tom"));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var update in client.GetStreamingResponseAsync(User("Forget this"), In("tom"),
                cancel.Token)) cancel.Cancel();
        });
        await foreach (var update in client.GetStreamingResponseAsync(User("And this"), In("tom"))) break;
        await Assert.ThrowsAsync<ArgumentException>(() => client.GetResponseAsync([], In("tom")));
        Assert.Equal(Answers(Says("I am Tom"), Says("Who am I?"))[1],
            (await client.GetResponseAsync(User("Who am I?"), In("tom"))).Text);
    }

    [Fact]
    public async Task OptionsOfACallAreItsOwn()
    {
        using var folder = new Folder();
        using var client = Client(folder.Path);
        await client.GetResponseAsync(User("Go on"), new()
        {
            ConversationId = "a", MaxOutputTokens = 3, StopSequences = ["e"], PresencePenalty = 2,
        });
        var second = await client.GetResponseAsync(User("Go on"), In("a"));
        Assert.Equal(24, second.Usage!.OutputTokenCount);
        Assert.Contains("e", second.Text);
    }

    [Fact]
    public async Task ClientsOfOneStoreSeeTheNewestVersion()
    {
        using var folder = new Folder();
        using InfiniChatClient one = Client(folder.Path), two = Client(folder.Path);
        string[] heard =
        [
            (await one.GetResponseAsync(User("I am Tom"), In("tom"))).Text,
            (await two.GetResponseAsync(User("Who am I?"), In("tom"))).Text,
            (await one.GetResponseAsync(User("Sure?"), In("tom"))).Text,
        ];
        Assert.Equal(Answers(Says("I am Tom"), Says("Who am I?"), Says("Sure?")), heard);
        Assert.True(await two.GetService<IConversationStore>()!.DeleteAsync("tom"));
        Assert.Equal(Answers(Says("Who am I?"))[0], (await one.GetResponseAsync(User("Who am I?"), In("tom"))).Text);
    }

    [Fact]
    public async Task TwoWritersNeverLoseOnesWordsSilently()
    {
        using var folder = new Folder();
        using InfiniChatClient one = Client(folder.Path), two = Client(folder.Path);
        await one.GetResponseAsync(User("I am Tom"), In("tom"));
        await using (var slow = one.GetStreamingResponseAsync(User("Lost?"), In("tom")).GetAsyncEnumerator())
        {
            await slow.MoveNextAsync();
            await two.GetResponseAsync(User("Who am I?"), In("tom"));
            await Assert.ThrowsAsync<ConversationConflictException>(async () =>
                { while (await slow.MoveNextAsync()) continue; });
        }
        Assert.Equal(Answers(Says("I am Tom"), Says("Who am I?"), Says("Lost?"))[2],
                     (await one.GetResponseAsync(User("Lost?"), In("tom"))).Text);
    }

    [Fact]
    public async Task AClientMayNameConversations()
    {
        using var folder = new Folder();
        using var client = Client(folder.Path, o => o.StartConversations = true);
        var first = await client.GetResponseAsync(User("I am Tom"));
        var second = await client.GetResponseAsync(User("Who am I?"), In(first.ConversationId!));
        Assert.Equal(Answers(Says("I am Tom"), Says("Who am I?"))[1], second.Text);
        Assert.NotEqual(first.ConversationId, (await client.GetResponseAsync(User("I am Tom"))).ConversationId);
    }
}
