using System.Text.Json;

namespace Infini;

/// <summary>A message of a conversation: <c>ChatMessage.User("Who wrote Emma?")</c>.</summary>
/// <param name="Role">Who speaks: "system", "user" or "assistant".</param>
/// <param name="Content">What is said. It is read as a person's words: a control token that is written there is none.</param>
public sealed record ChatMessage(string Role, string Content)
{
    /// <summary>What the assistant is told to be.</summary>
    /// <param name="content">The words.</param>
    /// <returns>The message.</returns>
    public static ChatMessage System(string content) => new("system", content);

    /// <summary>What the user says.</summary>
    /// <param name="content">The words.</param>
    /// <returns>The message.</returns>
    public static ChatMessage User(string content) => new("user", content);

    /// <summary>What the assistant said, or begins to say.</summary>
    /// <param name="content">The words.</param>
    /// <returns>The message.</returns>
    public static ChatMessage Assistant(string content) => new("assistant", content);

    /// <summary>A list of messages as the library reads it.</summary>
    internal static string Json(IEnumerable<ChatMessage> messages)
    {
        ArgumentNullException.ThrowIfNull(messages);
        var list = messages.ToList();
        // JSON would replace half of a surrogate pair.
        foreach (var (role, content) in list) _ = (Utf8.Encode(role), Utf8.Encode(content));
        return JsonSerializer.Serialize(list, LibraryJson.Default.ListChatMessage);
    }
}

// Conversations.
public sealed partial class Session
{
    /// <summary>Reads messages of a conversation, as the model's template writes them, up to where the assistant speaks:
    /// <see cref="Generate"/>, <see cref="GenerateAsync"/> or <see cref="NextText"/> then write the reply.</summary>
    /// <param name="messages">The new ones; the session holds the conversation, and so does a snapshot of it. Where the last one
    /// is the assistant's, generation goes on with it.</param>
    /// <param name="progress">As in <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <param name="cancellation">As there.</param>
    /// <exception cref="ArgumentException">A text has half of a surrogate pair in it.</exception>
    /// <exception cref="InfiniException">InvalidArgument (there is no message, or a role is not known), Unsupported (the model has
    /// no chat template, or one that cannot be run); nothing was read. State, as for a text.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Chat(IEnumerable<ChatMessage> messages, IProgress<WorkProgress>? progress = null,
                     CancellationToken cancellation = default) =>
        ChatJson(ChatMessage.Json(messages), progress, cancellation);

    /// <summary>Does the same with messages one by one.</summary>
    /// <param name="messages">As there.</param>
    public void Chat(params ChatMessage[] messages) => Chat(messages, null);

    /// <summary>Does the same on a thread of the pool.</summary>
    /// <param name="messages">As there.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>When the messages were read.</returns>
    public Task ChatAsync(IEnumerable<ChatMessage> messages, IProgress<WorkProgress>? progress = null,
                          CancellationToken cancellation = default) =>
        ChatJsonAsync(ChatMessage.Json(messages), progress, cancellation);

    /// <summary>Does the same with messages as other programs write them.</summary>
    /// <param name="messagesJson">A list of {"role": "...", "content": ...}, where the content is a text, null or a list of
    /// {"type": "text", "text": "..."}; other keys are left alone.</param>
    /// <param name="progress">As for messages.</param>
    /// <param name="cancellation">As for messages.</param>
    /// <exception cref="InfiniException">As for messages.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void ChatJson(string messagesJson, IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Long((session, task) => Native.infini_session_chat(session, messagesJson, task), progress, cancellation);

    /// <summary>Does what <see cref="ChatJson"/> does, on a thread of the pool.</summary>
    /// <param name="messagesJson">As there.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>When the messages were read.</returns>
    public Task ChatJsonAsync(string messagesJson, IProgress<WorkProgress>? progress = null,
                              CancellationToken cancellation = default) =>
        LongAsync((session, task) => Native.infini_session_chat(session, messagesJson, task), progress, cancellation);

    /// <summary>The tokens that <see cref="ChatJson"/> would read, for who reads them in pieces, between which others have their turn:
    /// all of them by <see cref="Feed(ReadOnlySpan{int}, IProgress{WorkProgress}, CancellationToken)"/>, and then
    /// <see cref="StartGeneration"/>. The turn begins here; where nothing of it is read, the next one does.</summary>
    /// <param name="messagesJson">As there.</param>
    /// <returns>The tokens.</returns>
    /// <exception cref="InfiniException">As there; nothing has changed.</exception>
    public unsafe int[] ChatTokensJson(string messagesJson)
    {
        using (turn.Take())
        {
            return Model.Tokens((nuint)messagesJson.Length + 256, (buffer, capacity, size) => Native.infini_session_chat_tokens(
                Handle, messagesJson, buffer, capacity, size));
        }
    }
}
