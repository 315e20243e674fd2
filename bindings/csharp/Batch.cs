namespace Infini;

/// <summary>Many sessions of one model that advance in one call, so that the model's weights are read once for all of them.
/// A session in a batch stays usable by itself. It may be called from any thread; calls take turns, with those of its
/// sessions too.</summary>
/// <remarks><see cref="Dispose"/> may be called at any time, from any thread and more than once; it frees the batch, not its
/// sessions.</remarks>
public sealed unsafe class Batch : IDisposable
{
    private readonly BatchHandle handle;
    private readonly Turn turn = new();
    private readonly Work work = new();
    private volatile bool disposed;
    private readonly List<Session> members = []; // in the library's order; the handle holds theirs

    internal Batch(BatchHandle handle) => this.handle = handle;

    private BatchHandle Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(disposed, this);
            return handle;
        }
    }

    /// <summary>The sessions of the batch, in the order in which they were added: a copy.</summary>
    public IReadOnlyList<Session> Sessions
    {
        get
        {
            using (turn.Take()) return [.. members];
        }
    }

    /// <summary>Adds a session as the last one.</summary>
    /// <param name="session">A session of the batch's model.</param>
    /// <exception cref="InfiniException">InvalidArgument: the session belongs to another model, or is in the batch
    /// already.</exception>
    public void Add(Session session)
    {
        using (turn.Take())
        {
            var held = session.Handle;
            Handle.Hold(held);
            try
            {
                using (session.Turn.Take()) InfiniException.Check(Native.infini_batch_add_held(handle, held.DangerousGetHandle()));
            }
            catch
            {
                handle.LetGo(held);
                throw;
            }
            members.Add(session);
        }
    }

    /// <summary>Takes a session out, which may be disposed.</summary>
    /// <param name="session">A session of the batch.</param>
    /// <exception cref="ArgumentException">It is not in the batch.</exception>
    public void Remove(Session session)
    {
        using (turn.Take())
        {
            int index = IndexOf(session);
            var held = session.HandleOrDisposed;
            using (session.Turn.Take()) InfiniException.Check(Native.infini_batch_remove_held(Handle, held.DangerousGetHandle()));
            members.RemoveAt(index);
            handle.LetGo(held);
        }
    }

    /// <summary>One token for every session, as <see cref="Session.NextToken"/> would give it.</summary>
    /// <param name="cancellation">Counts until the call begins.</param>
    /// <returns>The tokens in the order of <see cref="Sessions"/>, null for a session whose run has ended, and whose next run
    /// begins with the next call; null where no session got one.</returns>
    /// <exception cref="InfiniException">State: a session has no logits; nothing was done.</exception>
    /// <exception cref="ObjectDisposedException">The batch, or a session of it, is disposed: remove it.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>; nothing was done.</exception>
    public int?[]? Next(CancellationToken cancellation = default)
    {
        using (turn.Take(cancellation))
        {
            int[] tokens = new int[members.Count];
            int status;
            // Two batches that share sessions must not wait for each other.
            var order = members.OrderBy(session => session.HandleOrDisposed.DangerousGetHandle()).ToArray();
            var taken = new Stack<Turn.Holder>();
            try
            {
                foreach (var session in order) taken.Push(session.Turn.Take(cancellation));
                foreach (var session in order) _ = session.Handle; // throws where it is disposed
                fixed (int* buffer = tokens)
                {
                    int* pinned = buffer;
                    status = work.Run(task => Native.infini_batch_next(Handle, task, pinned, (nuint)tokens.Length, null),
                                      null, cancellation);
                }
            }
            finally
            {
                while (taken.TryPop(out var holder)) holder.Dispose();
            }
            return status == InfiniException.End ? null : Array.ConvertAll(tokens, token => token < 0 ? (int?)null : token);
        }
    }

    /// <summary>The text of a session's tokens since it was last asked for.</summary>
    /// <param name="session">A session of the batch.</param>
    /// <returns>Whole characters, stop strings withheld; may be empty.</returns>
    /// <exception cref="ArgumentException">It is not in the batch.</exception>
    public string Text(Session session)
    {
        using (turn.Take())
        {
            nuint index = (nuint)IndexOf(session);
            using (session.Turn.Take())
                return Utf8.Text((buffer, capacity, size) => Native.infini_batch_text(Handle, index, buffer, capacity, size));
        }
    }

    /// <summary>Frees the batch, not its sessions. Disposing again does nothing.</summary>
    public void Dispose()
    {
        disposed = true;
        work.Dispose();
        handle.Dispose();
    }

    private int IndexOf(Session session)
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        int index = members.IndexOf(session);
        return index >= 0 ? index : throw new ArgumentException("the session is not in the batch", nameof(session));
    }
}
