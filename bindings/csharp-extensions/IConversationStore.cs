namespace Infini.Extensions.AI;

/// <summary>A conversation as a store keeps it.</summary>
/// <param name="Version">Changes with every write, and does not come again.</param>
/// <param name="Snapshot">What a <see cref="Session"/> is restored from; null where it was not asked for.</param>
public sealed record StoredConversation(string Version, ReadOnlyMemory<byte>? Snapshot);

/// <summary>Where conversations are kept, by their names. Any number of threads, processes and machines may use one
/// store: who writes names the version that the writing is based on, so that nobody's words are lost
/// silently.</summary>
public interface IConversationStore
{
    /// <summary>Reads a conversation.</summary>
    /// <param name="id">Its name.</param>
    /// <param name="known">A version whose snapshot need not be read, because the caller has it; null: none.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <returns>The newest version; null: there is no such conversation.</returns>
    ValueTask<StoredConversation?> ReadAsync(string id, string? known = null, CancellationToken cancellation = default);

    /// <summary>Writes a conversation, whole or not at all.</summary>
    /// <param name="id">Its name.</param>
    /// <param name="snapshot">Is copied, not kept.</param>
    /// <param name="replaces">The version that this one goes on from; null: there is none.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <returns>The new version.</returns>
    /// <exception cref="ConversationConflictException">The newest version is another; nothing was written.</exception>
    ValueTask<string> WriteAsync(string id, ReadOnlyMemory<byte> snapshot, string? replaces,
                                 CancellationToken cancellation = default);

    /// <summary>Forgets a conversation.</summary>
    /// <param name="id">Its name.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <returns>Whether there was one.</returns>
    ValueTask<bool> DeleteAsync(string id, CancellationToken cancellation = default);
}

/// <summary>Another writer went on with a conversation, or deleted it, meanwhile. The conversation is as that writer
/// left it; the call may be made again.</summary>
public sealed class ConversationConflictException : InvalidOperationException
{
    /// <summary>Says which conversation.</summary>
    /// <param name="id">Its name.</param>
    public ConversationConflictException(string id)
        : base($"conversation '{id}' was changed by another writer meanwhile: nothing was written, call again")
    {
    }
}
