using Infini;
using Infini.Extensions.AI;
using Microsoft.Extensions.AI;
using ChatMessage = Microsoft.Extensions.AI.ChatMessage;

/// <summary>What the tests share. INFINI_SOURCE is the folder of the sources, INFINI_CHAT a model with a chat
/// template.</summary>
internal static class Support
{
    internal static readonly string ChatFile = Environment.GetEnvironmentVariable("INFINI_CHAT")!;
    internal static readonly string StoriesFile =
        Path.Combine(Environment.GetEnvironmentVariable("INFINI_SOURCE")!, "samples/models/stories260K.gguf");

    internal static InfiniModelOptions Exact => new() { Compute = "f32", Threads = 1 };

    internal static readonly Model Shared = Model.Open(ChatFile, Exact);

    internal static InfiniClientOptions Options(string? folder = null, Action<InfiniClientOptions>? more = null)
    {
        var options = new InfiniClientOptions
        {
            ModelPath = ChatFile, Model = Exact, Session = new() { Threads = 1, MaxTokens = 24 },
                ConversationFolder = folder,
        };
        more?.Invoke(options);
        return options;
    }

    internal static InfiniChatClient Client(string? folder = null, Action<InfiniClientOptions>? more = null,
        IConversationStore? store = null) =>
        new(Shared, Options(folder, more), store);

    /// <summary>What the library's own session answers to turns of a conversation, the likeliest tokens.</summary>
    internal static string[] Answers(params Infini.ChatMessage[][] turns)
    {
        using var session = Shared.CreateSession(new() { Threads = 1, MaxTokens = 24 });
        return turns.Select(turn =>
        {
            session.Chat(turn);
            return string.Concat(session.Generate());
        }).ToArray();
    }

    internal static Infini.ChatMessage[] Says(string words) => [Infini.ChatMessage.User(words)];

    internal static ChatOptions In(string conversation) => new() { ConversationId = conversation };

    internal static async Task<List<ChatResponseUpdate>> All(this IAsyncEnumerable<ChatResponseUpdate> updates)
    {
        var all = new List<ChatResponseUpdate>();
        await foreach (var update in updates) all.Add(update);
        return all;
    }

    /// <summary>A folder of a test, which it takes away.</summary>
    internal sealed class Folder : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("infini").FullName;

        public void Dispose() => Directory.Delete(Path, true);
    }

    internal static List<ChatMessage> User(string words) => [new(ChatRole.User, words)];
}
