using Infini;
using Microsoft.Extensions.AI;
using Xunit;
using static Support;
using ChatMessage = Microsoft.Extensions.AI.ChatMessage;

public class ChatTests
{
    [Fact]
    public async Task AnswersAsTheLibraryDoes()
    {
        using IChatClient client = Client();
        var response = await client.GetResponseAsync("Tell me of Lily.");
        Assert.Equal(Answers(Says("Tell me of Lily."))[0], response.Text);
        Assert.Equal(ChatFinishReason.Length, response.FinishReason);
        Assert.Equal(24, response.Usage!.OutputTokenCount);
        Assert.Equal(Shared.ChatTokens(Says("Tell me of Lily.")).Length, response.Usage.InputTokenCount);
        Assert.Equal(response.Usage.InputTokenCount + 24, response.Usage.TotalTokenCount);
        Assert.Equal(Shared.Info().Name, response.ModelId);
        Assert.Null(response.ConversationId);
        Assert.NotEmpty(response.ResponseId!);
        Assert.Equal(ChatRole.Assistant, Assert.Single(response.Messages).Role);
    }

    [Fact]
    public async Task AStreamIsTheAnswerInPieces()
    {
        using var client = Client();
        var updates = await client.GetStreamingResponseAsync(User("Once")).All();
        Assert.True(updates.Count > 10);
        Assert.Equal(Answers(Says("Once"))[0], string.Concat(updates.Select(update => update.Text)));
        Assert.All(updates[..^1], update => Assert.Null(update.FinishReason));
        Assert.Equal(ChatFinishReason.Length, updates[^1].FinishReason);
        Assert.Equal(24, Assert.IsType<UsageContent>(Assert.Single(updates[^1].Contents)).Details.OutputTokenCount);
        Assert.Single(updates.Select(update => update.MessageId).Distinct());
    }

    [Fact]
    public async Task ReadsAllMessagesAndInstructions()
    {
        using var client = Client();
        List<ChatMessage> messages = [new(ChatRole.User, "Hi"), new(ChatRole.Assistant, "Hello."), new(ChatRole.User,
            "Who?")];
        var response = await client.GetResponseAsync(messages, new() { Instructions = "Be kind." });
        Assert.Equal(Answers([Infini.ChatMessage.System("Be kind."), Infini.ChatMessage.User("Hi"),
                              Infini.ChatMessage.Assistant("Hello."), Infini.ChatMessage.User("Who?")])[0],
                                  response.Text);
    }

    [Fact]
    public async Task StopsAtATextAndDoesNotWriteIt()
    {
        using var client = Client();
        string whole = (await client.GetResponseAsync(User("Once"))).Text, stop = whole.Substring(whole.Length / 2, 3);
        var response = await client.GetResponseAsync(User("Once"), new() { StopSequences = ["\n\n\n", stop] });
        Assert.Equal(whole[..whole.IndexOf(stop, StringComparison.Ordinal)], response.Text);
        Assert.Equal(ChatFinishReason.Stop, response.FinishReason);
    }

    [Fact]
    public async Task HonoursOptionsOfSampling()
    {
        using var client = Client();
        async Task<string> Ask(ChatOptions options) => (await client.GetResponseAsync(User("Once"), options)).Text;
        string greedy = await Ask(new());
        Assert.Equal(greedy, await Ask(new() { Temperature = 1, TopK = 1 }));
        Assert.Equal(greedy, await Ask(new() { Temperature = 1, TopP = 0 }));
        Assert.Equal(await Ask(new() { Temperature = 2, Seed = 7 }), await Ask(new() { Temperature = 2, Seed = 7 }));
        Assert.NotEqual(await Ask(new() { Temperature = 2, Seed = 7 }), await Ask(new() { Temperature = 2,
            Seed = -8 }));
        // Each its own seed.
        Assert.NotEqual(await Ask(new() { Temperature = 2 }), await Ask(new() { Temperature = 2 }));
        Assert.NotEqual(greedy, await Ask(new() { PresencePenalty = 50 }));
        Assert.NotEqual(greedy, await Ask(new() { FrequencyPenalty = 50 }));
        Assert.Equal(greedy, await Ask(new()
        {
            Temperature = 2, AdditionalProperties = new() { ["min_p"] = 1.0, ["theirs"] = "ignored" },
        }));
        Assert.Equal(greedy, await Ask(new()
        {
            Temperature = 2, RawRepresentationFactory = _ => new InfiniSessionOptions { Temperature = 0 },
        }));
        Assert.Equal(greedy, await Ask(new()
        {
            ResponseFormat = ChatResponseFormat.Json, ModelId = "another", AllowMultipleToolCalls = true,
        }));
        Assert.Equal("", await Ask(new() { MaxOutputTokens = 0 }));
    }

    [Fact]
    public async Task ACallThatIsCancelledEndsAndTheClientGoesOn()
    {
        using var client = Client();
        using var cancel = new CancellationTokenSource();
        var stream = client.GetStreamingResponseAsync(User("Once"), new()
        {
            MaxOutputTokens = 1_000_000, AdditionalProperties = new() { ["ignore_end"] = 1 },
        });
        int heard = 0;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var update in stream.WithCancellation(cancel.Token))
                if (++heard == 3) cancel.Cancel();
        });
        Assert.Equal(3, heard);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => client.GetResponseAsync(User("Once"), null,
            cancel.Token));
        await foreach (var update in client.GetStreamingResponseAsync(User("Once"))) break; // one that goes away
        Assert.NotEmpty((await client.GetResponseAsync(User("Once"))).Text);
    }

    [Fact]
    public async Task RefusesWhatItCannotDo()
    {
        using var client = Client();
        Assert.Throws<ArgumentNullException>(() => { client.GetStreamingResponseAsync(null!); });
        await Assert.ThrowsAsync<ArgumentException>(() => client.GetResponseAsync([]));
        await Assert.ThrowsAnyAsync<ArgumentException>(() => client.GetResponseAsync(User("half \ud83d of a pair")));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => client.GetResponseAsync(User("a"),
            new() { MaxOutputTokens = -1 }));
        async Task Unsupported(string words, List<ChatMessage> messages, ChatOptions? options = null) =>
            Assert.Contains(words, (await Assert.ThrowsAsync<NotSupportedException>(() =>
                client.GetResponseAsync(messages, options))).Message);
        await Unsupported("DataContent", [new(ChatRole.User, [new DataContent(new byte[] { 1 }, "image/png")])]);
        await Unsupported("ToolMode", User("a"), new() { ToolMode = ChatToolMode.RequireAny });
        await Unsupported("neither store nor folder", User("a"), In("kept nowhere"));
        async Task Invalid(Status status, IChatClient asked, List<ChatMessage> messages, ChatOptions? options = null) =>
            Assert.Equal(status, (await Assert.ThrowsAsync<InfiniException>(() => asked.GetResponseAsync(messages,
                options))).Status);
        await Invalid(Status.InvalidArgument, client, User("a"), new() { Temperature = -1 });
        await Invalid(Status.InvalidArgument, client, User("a"), new() { TopP = 2 });
        using var plain = Model.Open(StoriesFile, Exact);
        using var without = new Infini.Extensions.AI.InfiniChatClient(plain);
        await Invalid(Status.Unsupported, without, User("a"));
        client.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => client.GetResponseAsync(User("a")));
        Assert.Throws<ArgumentOutOfRangeException>(() => Client(more: o => o.ConcurrentCalls = 0));
    }

    [Fact]
    public async Task AnswersManyAtOnce()
    {
        using var client = Client(more: o => o.ConcurrentCalls = 2);
        string[] words = ["Once", "Tom", "The cat", "A dog", "Lily", "One day", "Sun", "Ben"];
        var responses = await Task.WhenAll(words.Select(word => client.GetResponseAsync(User(word))));
        for (int i = 0; i < words.Length; i++) Assert.Equal(Answers(Says(words[i]))[0], responses[i].Text);
    }

    [Fact]
    public void GivesWhatItIsMadeOf()
    {
        using var client = Client(more: o => o.ModelId = "mine");
        Assert.Same(client, client.GetService<IChatClient>());
        Assert.Same(Shared, client.GetService<Model>());
        var metadata = client.GetService<ChatClientMetadata>()!;
        Assert.Equal(("infini", "mine"), (metadata.ProviderName, metadata.DefaultModelId));
        Assert.Null(client.GetService<string>());
        Assert.Null(client.GetService<IChatClient>("a key"));
    }
}
