namespace Infini.Extensions.AI;

/// <summary>The conversations of a client: which are ready in memory, whose turn it is in each. A turn works on a copy
/// of the conversation's session, which takes its place when the turn was kept; so a turn that fails leaves no
/// trace.</summary>
internal sealed class Conversations(Model model, IConversationStore store, int inMemory) : IDisposable
{
    private readonly Dictionary<string, Conversation> conversations = [];
    private bool disposed;

    /// <summary>Waits for the turn in a conversation, and brings it to the newest version of the store.</summary>
    public async Task<ConversationTurn> TakeAsync(string id, CancellationToken cancellation)
    {
        Conversation conversation;
        lock (conversations)
        {
            ObjectDisposedException.ThrowIf(disposed, typeof(InfiniChatClient));
            if (!conversations.TryGetValue(id, out conversation!)) conversations.Add(id, conversation = new());
            conversation.Users++;
        }
        bool taken = false;
        try
        {
            await conversation.Turn.WaitAsync(cancellation).ConfigureAwait(false);
            taken = true;
            var stored = await store.ReadAsync(id, conversation.Version, cancellation).ConfigureAwait(false);
            if (stored?.Version != conversation.Version) conversation.Drop();
            if (stored?.Snapshot is { } snapshot && conversation.Session is null)
            {
                var session = model.CreateSession();
                conversation.Session = session;
                await Task.Run(() => session.Restore(snapshot.Span, cancellation), cancellation).ConfigureAwait(false);
                conversation.Version = stored.Version;
            }
            return new(this, id, conversation, conversation.Session?.Fork() ?? model.CreateSession());
        }
        catch
        {
            if (taken && conversation.Version is null) conversation.Drop();
            Leave(conversation, taken);
            throw;
        }
    }

    /// <summary>Keeps what a turn has come to.</summary>
    public async Task KeepAsync(string id, Conversation conversation, Session session, CancellationToken cancellation)
    {
        byte[] snapshot = await Task.Run(() => session.Snapshot(cancellation: cancellation), cancellation)
            .ConfigureAwait(false);
        string version = await store.WriteAsync(id, snapshot, conversation.Version, cancellation).ConfigureAwait(false);
        conversation.Drop();
        (conversation.Session, conversation.Version) = (session, version);
    }

    /// <summary>Ends a turn, or the wait for one, and lets the longest idle conversations go where there are too
    /// many.</summary>
    public void Leave(Conversation conversation, bool taken)
    {
        lock (conversations)
        {
            conversation.Used = Environment.TickCount64;
            conversation.Users--;
            if (taken) conversation.Turn.Release();
            var idle = conversations.Where(pair => pair.Value.Users == 0).OrderBy(pair => pair.Value.Used).ToList();
            for (int i = 0; i < idle.Count; i++)
                if (disposed || i < idle.Count - inMemory || idle[i].Value.Version is null)
                    Remove(idle[i].Key, idle[i].Value);
        }
    }

    public void Dispose()
    {
        lock (conversations)
        {
            disposed = true;
            foreach (var (name, idle) in conversations.ToList())
                if (idle.Users == 0) Remove(name, idle);
        }
    }

    private void Remove(string name, Conversation idle)
    {
        conversations.Remove(name);
        idle.Drop();
        idle.Turn.Dispose();
    }

    internal sealed class Conversation
    {
        public readonly SemaphoreSlim Turn = new(1, 1);
        public Session? Session; // of Version
        public string? Version; // of the store; null: none
        public int Users; // that have the turn or wait for it
        public long Used;

        public void Drop()
        {
            Session?.Dispose();
            (Session, Version) = (null, null);
        }
    }
}

/// <summary>A turn in a conversation, which ends when it is disposed.</summary>
internal sealed class ConversationTurn(Conversations all, string id, Conversations.Conversation conversation,
                                       Session session) : IDisposable
{
    private bool kept;

    /// <summary>The copy that the turn works on.</summary>
    public Session Session => session;

    /// <summary>Makes the copy the conversation, in the store first.</summary>
    public async Task KeepAsync(CancellationToken cancellation)
    {
        await all.KeepAsync(id, conversation, session, cancellation).ConfigureAwait(false);
        kept = true;
    }

    public void Dispose()
    {
        if (!kept) session.Dispose();
        all.Leave(conversation, taken: true);
    }
}
