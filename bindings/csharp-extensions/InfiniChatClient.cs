using System.Diagnostics;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Infini.Extensions.AI;

using ChatMessage = Microsoft.Extensions.AI.ChatMessage;

/// <summary>A model that takes part in conversations, through its chat template.</summary>
/// <remarks>
/// <para>A call without <see cref="ChatOptions.ConversationId"/> is given all messages, and nothing of it stays. One
/// with it is given what is new: the model remembers the rest, in memory of fixed size, and its store keeps it through
/// restarts. Whoever calls names conversations; a name that the store does not have begins one. Who may use a name is
/// for the application to say: names that users choose should be prefixed with the user.</para>
/// <para>A call in a conversation counts whole or not at all: one that fails, is cancelled or whose stream is not read
/// to its end leaves the conversation as it was. Where it was kept, it was before the last update of the stream is
/// given.</para>
/// <para>Any number of threads may call at once. Each call has a session of its own; calls in one conversation take
/// turns. Answers are written together, so that the model's weights are read once for all of them; <see
/// cref="InfiniClientOptions.ConcurrentCalls"/> says whose messages are read at a time.</para>
/// <para>Honoured are MaxOutputTokens, Temperature, TopP, TopK, PresencePenalty, FrequencyPenalty, Seed, StopSequences,
/// Instructions (where a stream begins), AdditionalProperties named as the library's options of generation ("min_p",
/// ...), and a RawRepresentationFactory that gives <see cref="InfiniSessionOptions"/>, which go before all. Tools that
/// must be called, continuation tokens and messages of other things than text are refused by <see
/// cref="NotSupportedException"/>. The rest is ignored: ModelId, tools that may be called, ResponseFormat,
/// Reasoning.</para>
/// <para>The client does not dispose the model.</para>
/// </remarks>
public sealed partial class InfiniChatClient : IChatClient
{
    private readonly Model model;
    private readonly InfiniSessionOptions defaults;
    private readonly bool start;
    private readonly ChatClientMetadata metadata;
    private readonly IConversationStore? store;
    private readonly Conversations? conversations;
    private readonly SemaphoreSlim reading;
    private readonly BatchWriter writer;
    private readonly ILogger logger;
    private volatile bool disposed;

    /// <summary>Makes a client of a model.</summary>
    /// <param name="model">Must live as long as the client.</param>
    /// <param name="options">Null: all defaults.</param>
    /// <param name="store">Where conversations are kept; null: in the options' folder. It is not disposed.</param>
    /// <param name="logger">Hears of calls in numbers, never in users' words; null: nobody does.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of range.</exception>
    public InfiniChatClient(Model model, InfiniClientOptions? options = null, IConversationStore? store = null,
                            ILogger<InfiniChatClient>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        options ??= new();
        ArgumentOutOfRangeException.ThrowIfLessThan(options.ConcurrentCalls, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfNegative(options.ConversationsInMemory, nameof(options));
        (this.model, defaults, start) = (model, options.Session, options.StartConversations);
        metadata = new("infini", null, options.ModelId ?? model.Info().Name);
        this.store = store ?? (options.ConversationFolder is { } folder ? new FolderConversationStore(folder) : null);
        conversations = this.store is null ? null : new(model, this.store, options.ConversationsInMemory);
        reading = new(options.ConcurrentCalls);
        writer = new(model);
        this.logger = logger ?? (ILogger)NullLogger.Instance;
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">There is no message, or an option is out of range.</exception>
    /// <exception cref="NotSupportedException">The class's remarks say what is refused.</exception>
    /// <exception cref="ConversationConflictException">Another writer changed the conversation meanwhile.</exception>
    /// <exception cref="InfiniException">InvalidArgument (an option is out of range, a role is not known), Unsupported
    /// (the model has no chat template), ModelMismatch (the conversation was held with another model).</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellationToken"/>.</exception>
    public async Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null,
                                                     CancellationToken cancellationToken = default) =>
        await GetStreamingResponseAsync(messages, options, cancellationToken).ToChatResponseAsync(cancellationToken)
            .ConfigureAwait(false);

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">As for <see cref="GetResponseAsync"/>, when the first update is
    /// asked for.</exception>
    public IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ObjectDisposedException.ThrowIf(disposed, this);
        return Answer(messages, options, cancellationToken);
    }

    /// <summary>Gives the <see cref="ChatClientMetadata"/>, the <see cref="Model"/>, the <see
    /// cref="IConversationStore"/>, or the client.</summary>
    /// <param name="serviceType">Which of them.</param>
    /// <param name="serviceKey">None of them has one.</param>
    /// <returns>Null: none of them is that.</returns>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(ChatClientMetadata) ? metadata
            : serviceType == typeof(Model) ? model
            : serviceType == typeof(IConversationStore) ? store
            : serviceType.IsInstanceOfType(this) ? this : null;
    }

    /// <summary>Lets go of the conversations in memory, which the store has. Calls that run end by
    /// themselves.</summary>
    public void Dispose()
    {
        disposed = true;
        conversations?.Dispose();
    }

    private async IAsyncEnumerable<ChatResponseUpdate> Answer(IEnumerable<ChatMessage> messages, ChatOptions? options,
                                                              [EnumeratorCancellation] CancellationToken cancellation)
    {
        long began = Stopwatch.GetTimestamp();
        string response = Guid.NewGuid().ToString("N");
        string? id = options?.ConversationId ?? (start ? Guid.NewGuid().ToString("N") : null);
        if (id is not null && conversations is null)
            throw new NotSupportedException("infini: a conversation is named, but there is neither store nor folder");

        using var turn = id is null ? null : await conversations!.TakeAsync(id, cancellation).ConfigureAwait(false);
        using var own = turn is null ? model.CreateSession() : null;
        var session = turn?.Session ?? own!;
        long before = session.Position;
        session.SetOptions(Requests.Settings(this, defaults, options, begins: before == 0));
        var words = Requests.Messages(messages, options, begins: before == 0);
        await reading.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            await session.ChatAsync(words, null, cancellation).ConfigureAwait(false);
        }
        finally
        {
            reading.Release();
        }
        long read = session.Position;
        session.StartGeneration();

        string reason;
        await using (var run = writer.Begin(session, cancellation))
        {
            for (string[]? pieces; ;)
            {
                (pieces, reason) = await run.TakeAsync().ConfigureAwait(false);
                if (pieces is null) break;
                foreach (string text in pieces)
                {
                    cancellation.ThrowIfCancellationRequested();
                    yield return Update(new TextContent(text));
                }
            }
        }
        if (reason == "cancelled") throw new OperationCanceledException(cancellation);
        long written = session.Position - read;
        if (turn is not null) await turn.KeepAsync(cancellation).ConfigureAwait(false);
        LogAnswer(logger, response, read - before, written, before, reason,
                  Stopwatch.GetElapsedTime(began).TotalMilliseconds);
        var last = Update(new UsageContent(new()
        {
            InputTokenCount = read - before,
            OutputTokenCount = written,
            TotalTokenCount = read - before + written,
        }));
        last.FinishReason = reason == "max_tokens" ? ChatFinishReason.Length : ChatFinishReason.Stop;
        yield return last;

        ChatResponseUpdate Update(AIContent content) => new(ChatRole.Assistant, [content])
        {
            ResponseId = response,
            MessageId = response,
            ConversationId = id,
            ModelId = metadata.DefaultModelId,
            CreatedAt = DateTimeOffset.UtcNow,
        };
    }

    [LoggerMessage(1, LogLevel.Information,
        "Response {Response}: read {Read} tokens, wrote {Written} after {Remembered} remembered, "
        + "ended by {Reason} in {Milliseconds:F0} ms")]
    private static partial void LogAnswer(ILogger logger, string response, long read, long written, long remembered,
                                          string reason, double milliseconds);
}
