namespace Infini.Extensions.AI;

/// <summary>How an <see cref="InfiniChatClient"/> or an <see cref="InfiniEmbeddingGenerator"/> works. Read once, when
/// it is made.</summary>
public sealed class InfiniClientOptions
{
    /// <summary>The GGUF file that dependency injection opens where no <see cref="Infini.Model"/> is
    /// registered.</summary>
    public string? ModelPath { get; set; }

    /// <summary>How that file is opened.</summary>
    public InfiniModelOptions Model { get; set; } = new();

    /// <summary>What a call has where its <see cref="Microsoft.Extensions.AI.ChatOptions"/> say nothing.</summary>
    public InfiniSessionOptions Session { get; set; } = new();

    /// <summary>The model's name in answers and telemetry; null (default): as its file says.</summary>
    public string? ModelId { get; set; }

    /// <summary>Calls whose messages or texts the model reads at once, 4 by default. Others wait, first come, first
    /// served. Answers it writes for all calls together, a token each at a time.</summary>
    public int ConcurrentCalls { get; set; } = 4;

    /// <summary>Where conversations are kept when no <see cref="IConversationStore"/> is given: a folder, made when the
    /// first one is kept; "conversations" by default. Null: a call that names a conversation is refused.</summary>
    public string? ConversationFolder { get; set; } = "conversations";

    /// <summary>Conversations that stay ready in memory while nobody speaks, 16 by default. Others are read from the
    /// store when they go on.</summary>
    public int ConversationsInMemory { get; set; } = 16;

    /// <summary>Whether a call that names no conversation begins one, whose name the answer gives. False by default:
    /// such a call is given all messages each time and nothing of it is kept.</summary>
    public bool StartConversations { get; set; }
}
