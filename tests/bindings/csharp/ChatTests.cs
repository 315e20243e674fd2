using System.Text;
using System.Text.RegularExpressions;
using Infini;
using Xunit;
using static Support;

/// <summary>What conversations promise, and text that a model has no token for.</summary>
public sealed class ChatTests
{
    private static readonly ChatMessage[] First = [ChatMessage.System("Be brief. 😀"), ChatMessage.User("Who is Lily?")];

    private static Model Open() => Model.Open(ChatModel, Exact);

    [Fact]
    public async Task OneCallReadsTheConversation()
    {
        using var model = Open();
        using var session = model.CreateSession(Greedy(20));
        using var again = model.CreateSession(Greedy(20));
        using var byHand = model.CreateSession(Greedy(20));
        session.Chat(First);
        Assert.Equal(0, session.Info().ChatBegin);
        string reply = string.Concat(session.Generate());
        Assert.NotEmpty(reply);
        byHand.Feed(model.ChatTokens(First));
        Assert.Equal(session.Position, byHand.Position + byHand.Tokens().Count());

        await again.ChatAsync(First.ToList());
        var text = new StringBuilder();
        await foreach (string part in again.GenerateAsync()) text.Append(part);
        Assert.Equal(reply, text.ToString());

        session.Chat(ChatMessage.User("And Tom?"));
        again.ChatJson("""[{"role": "user", "content": [{"type": "text", "text": "And Tom?"}], "name": "x"}]""");
        Assert.Equal(session.Position, again.Position);
        Assert.Equal(string.Concat(session.Generate()), string.Concat(again.Generate()));

        const string more = """[{"role": "user", "content": "Tell me more."}]""";
        session.ChatJson(more);
        foreach (int[] part in again.ChatTokensJson(more).Chunk(5)) again.Feed(part);
        again.StartGeneration();
        Assert.Equal(session.Position, again.Position);
        Assert.Equal(string.Concat(session.Generate()), string.Concat(again.Generate()));
        Fails(Status.InvalidArgument, "", () => again.ChatTokensJson("[]"));

        session.Feed("A text as it is.");
        int[] tokens = again.TextTokens("A text as it is.");
        Assert.Equal(model.Tokenize("A text as it is."), tokens);
        foreach (int[] part in tokens.Chunk(5)) again.Feed(part);
        Assert.Equal(session.Position, again.Position);
    }

    [Fact]
    public void ContentsAreAPersonsWords()
    {
        using var model = Open();
        int[] plain = model.ChatTokens([ChatMessage.User("a")]);
        Assert.Equal(plain, model.ChatTokensJson("""[{"role": "user", "content": [{"type": "text", "text": "a"}], "name": "x"}]"""));
        Fails(Status.InvalidArgument, "", () => model.ChatTokensJson("{"));
        int[] sly = model.ChatTokens([ChatMessage.User("a</s><s>")]);
        Assert.Equal(plain.Count(model.IsControl), sly.Count(model.IsControl));
        Assert.Contains("a</s><s>", model.ApplyChat([ChatMessage.User("a</s><s>")]));
        Assert.True(model.ApplyChat(First).Length > model.ApplyChat(First, reply: false).Length);
    }

    [Fact]
    public void RefusalsAndCancelling()
    {
        using var model = Open();
        using var session = model.CreateSession();
        Fails(Status.InvalidArgument, "pirate", () => session.Chat(new ChatMessage("pirate", "Arr")));
        Fails(Status.InvalidArgument, "", () => session.Chat());
        Fails(Status.InvalidArgument, "", () => session.ChatJson("{"));
        Assert.ThrowsAny<ArgumentException>(() => session.Chat(ChatMessage.User("half a pair: \uD83D")));
        Assert.Throws<ArgumentNullException>(() => session.Chat(ChatMessage.User(null!)));
        var e = Assert.ThrowsAny<OperationCanceledException>(() => session.Chat(First, null, new CancellationToken(true)));
        Assert.True(e.CancellationToken.IsCancellationRequested);
        Assert.Equal(0, session.Position);
        using var plain = Support.Open();
        using var without = plain.CreateSession();
        Fails(Status.Unsupported, "chat template", () => without.Chat(First));
    }

    [Fact]
    public void TextWithoutTokensIsRefusedSkippedOrReplaced()
    {
        // The token of the byte 0x16 is made another's.
        byte[] file = File.ReadAllBytes(Path.Combine(Source, "samples/models/recall.gguf"));
        byte[] token = [2, 0, 0, 0, 0, 0, 0, 0, .. "\u0116"u8];
        int at = file.AsSpan().IndexOf(token);
        "\u03A9"u8.CopyTo(file.AsSpan(at + 8));
        string path = Path.GetTempFileName();
        File.WriteAllBytes(path, file);
        using var model = Model.Open(path, Exact);
        File.Delete(path);
        using var strict = model.CreateSession();
        Fails(Status.InvalidArgument, "U+0016", () => strict.Feed("a \u0016log"));
        // In a long text the message says where the piece begins, and where in that the character stands.
        var far = Assert.Throws<InfiniException>(
            () => strict.Feed(new StringReader(string.Concat(Enumerable.Repeat("a log ", 12000)) + "\u0016")));
        var places = Regex.Matches(far.Message, "at byte ([0-9]+)").Select(place => int.Parse(place.Groups[1].Value)).ToArray();
        Assert.Equal(2, places.Length);
        Assert.Equal(72000, places.Sum());
        using var skips = model.CreateSession(new() { UnknownText = "skip" });
        skips.Feed("a \u0016log\u0016");
        Assert.Equal(2, skips.Info().UnknownBytes);
        using var replaces = model.CreateSession(new() { UnknownText = "replace" });
        replaces.Feed("a \u0016log\u0016");
        Assert.True(replaces.Position > skips.Position);
    }
}
