namespace Infini;

// Keeping a session and going back.
public sealed partial class Session
{
    private const int SnapshotMemory = 1; // INFINI_SNAPSHOT_MEMORY

    private int room = 1 << 16; // bytes that the next snapshot will mostly fit, so that it is made once

    /// <summary>Saves the session to a file, which is replaced whole or not at all.</summary>
    /// <param name="path">The file.</param>
    /// <param name="memoryOnly">False: everything that it needs to go on exactly as if it had never stopped; true: the memory
    /// alone, as it would be after closing the open segment.</param>
    /// <param name="name">Kept in the snapshot for the caller.</param>
    /// <param name="note">The same.</param>
    /// <param name="progress">Hears, on other threads, of stage "save", in bytes.</param>
    /// <param name="cancellation">Then what was there before is still there.</param>
    /// <exception cref="InfiniException">Io, NoSpace, State.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Save(string path, bool memoryOnly = false, string name = "", string note = "",
                     IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        Long((session, task) => Native.infini_session_save(session, path, memoryOnly ? SnapshotMemory : 0, name, note, task),
             progress, cancellation, path);

    /// <summary>Does what <see cref="Save"/> does, on a thread of the pool.</summary>
    /// <param name="path">As in <see cref="Save"/>.</param>
    /// <param name="memoryOnly">As in <see cref="Save"/>.</param>
    /// <param name="name">As in <see cref="Save"/>.</param>
    /// <param name="note">As in <see cref="Save"/>.</param>
    /// <param name="progress">As in <see cref="Save"/>.</param>
    /// <param name="cancellation">As in <see cref="Save"/>.</param>
    /// <returns>When the file is there.</returns>
    public Task SaveAsync(string path, bool memoryOnly = false, string name = "", string note = "",
                          IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        LongAsync((session, task) => Native.infini_session_save(session, path, memoryOnly ? SnapshotMemory : 0, name, note, task),
                  progress, cancellation, path);

    /// <summary>Takes a snapshot as bytes.</summary>
    /// <param name="memoryOnly">As in <see cref="Save"/>.</param>
    /// <param name="name">As in <see cref="Save"/>.</param>
    /// <param name="note">As in <see cref="Save"/>.</param>
    /// <param name="progress">As in <see cref="Save"/>.</param>
    /// <param name="cancellation">Cancels.</param>
    /// <returns>The snapshot.</returns>
    /// <exception cref="InfiniException">State.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public unsafe byte[] Snapshot(bool memoryOnly = false, string name = "", string note = "",
                                  IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        byte[] snapshot = [];
        Long((session, task) =>
        {
            snapshot = Utf8.Bytes((buffer, capacity, size) => Native.infini_session_save_buffer(
                session, memoryOnly ? SnapshotMemory : 0, name, note, task, buffer, capacity, size), null, room)!;
            room = Math.Max(room, snapshot.Length + snapshot.Length / 8);
            return InfiniException.Ok;
        }, progress, cancellation);
        return snapshot;
    }

    /// <summary>Takes a snapshot and writes it to a stream.</summary>
    /// <param name="to">Is written, and not disposed.</param>
    /// <param name="memoryOnly">As in <see cref="Save"/>.</param>
    /// <param name="name">As in <see cref="Save"/>.</param>
    /// <param name="note">As in <see cref="Save"/>.</param>
    /// <param name="progress">As in <see cref="Save"/>.</param>
    /// <param name="cancellation">Cancels before anything is written.</param>
    /// <exception cref="InfiniException">State.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Snapshot(Stream to, bool memoryOnly = false, string name = "", string note = "",
                         IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default) =>
        to.Write(Snapshot(memoryOnly, name, note, progress, cancellation));

    /// <summary>Puts the session where the snapshot was taken: all or nothing, so that after a failure the session is as it
    /// was. Options of generation that this session was not given come from the snapshot.</summary>
    /// <param name="snapshot">The snapshot.</param>
    /// <param name="cancellation">Counts until restoring begins.</param>
    /// <exception cref="InfiniException">ModelMismatch, Version, Checksum, Format, Truncated.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public unsafe void Restore(ReadOnlySpan<byte> snapshot, CancellationToken cancellation = default)
    {
        fixed (byte* data = snapshot)
        {
            byte* pinned = data;
            nuint count = (nuint)snapshot.Length;
            Long((session, task) => Native.infini_session_restore_buffer(session, pinned, count, task), null, cancellation);
        }
    }

    /// <summary>Does the same with a snapshot that is read from a stream, to its end.</summary>
    /// <param name="snapshot">Is read, and not disposed.</param>
    /// <param name="cancellation">As for bytes.</param>
    /// <exception cref="InfiniException">As for bytes.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Restore(Stream snapshot, CancellationToken cancellation = default)
    {
        var data = new MemoryStream();
        snapshot.CopyTo(data);
        Restore(data.GetBuffer().AsSpan(0, (int)data.Length), cancellation);
    }

    /// <summary>Does the same with the snapshot in a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="cancellation">Counts until restoring begins.</param>
    /// <exception cref="InfiniException">Io; else as for bytes.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Restore(string path, CancellationToken cancellation = default) =>
        Long((session, task) => Native.infini_session_restore(session, path, task), null, cancellation, path);

    /// <summary>Does the same with the snapshot in a file, on a thread of the pool.</summary>
    /// <param name="path">The file.</param>
    /// <param name="cancellation">Counts until restoring begins.</param>
    /// <returns>When the session is there.</returns>
    public Task RestoreAsync(string path, CancellationToken cancellation = default) =>
        LongAsync((session, task) => Native.infini_session_restore(session, path, task), null, cancellation, path);

    /// <summary>Adds what a snapshot holds, its memory and the sentences that it keeps, to the session, or takes it away. The
    /// open segment is closed first; window, position and logits stay, and no rewind goes back to before. All or nothing.</summary>
    /// <param name="snapshot">The snapshot.</param>
    /// <param name="weight">How often it is added; below 0 it is taken away.</param>
    /// <param name="cancellation">Counts until merging begins.</param>
    /// <exception cref="InfiniException">InvalidArgument: the weight, or more would be taken away than the memory holds; else
    /// as for restoring.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public unsafe void Merge(ReadOnlySpan<byte> snapshot, double weight = 1, CancellationToken cancellation = default)
    {
        fixed (byte* data = snapshot)
        {
            byte* pinned = data;
            nuint count = (nuint)snapshot.Length;
            Long((session, task) => Native.infini_session_merge_buffer(session, pinned, count, weight, task), null,
                 cancellation);
        }
    }

    /// <summary>Does the same with the snapshot in a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="weight">As for bytes.</param>
    /// <param name="cancellation">Counts until merging begins.</param>
    /// <exception cref="InfiniException">Io; else as for bytes.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public void Merge(string path, double weight = 1, CancellationToken cancellation = default) =>
        Long((session, task) => Native.infini_session_merge(session, path, weight, task), null, cancellation, path);

    /// <summary>Goes back to an earlier position of the stream, between <see cref="RewindLimit"/> and the present one. Option
    /// "checkpoints" says how many segment boundaries are kept for that. A new run of generation begins.</summary>
    /// <param name="position">In tokens.</param>
    /// <exception cref="InfiniException">State: the position is out of reach; nothing has changed.</exception>
    public void Rewind(long position) => Call(session => Native.infini_session_rewind(session, position));

    /// <summary>The earliest position that <see cref="Rewind"/> reaches.</summary>
    public unsafe long RewindLimit => Number(Native.infini_session_rewind_limit);
}
