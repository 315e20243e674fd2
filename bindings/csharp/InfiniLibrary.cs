using System.Text;
using System.Text.Json;

namespace Infini;

/// <summary>How much a log record matters.</summary>
public enum LogSeverity
{
    /// <summary>For those who look for a fault.</summary>
    Debug,
    /// <summary>For the record.</summary>
    Info,
    /// <summary>For someone to read.</summary>
    Warning,
}

/// <summary>One record of the log.</summary>
/// <param name="Severity">How much it matters.</param>
/// <param name="Message">What it says.</param>
public sealed record LogRecord(LogSeverity Severity, string Message);

/// <summary>What belongs to the library as a whole. May be used from any thread.</summary>
public static unsafe class InfiniLibrary
{
    /// <summary>The library's version, "MAJOR.MINOR.PATCH".</summary>
    public static string Version => Native.infini_version();

    /// <summary>The table of all options.</summary>
    /// <returns>The options in documented order.</returns>
    public static IReadOnlyList<OptionInfo> DescribeOptions() =>
        JsonSerializer.Deserialize(Utf8.Text(Native.infini_options_json), LibraryJson.Default.IReadOnlyListOptionInfo)!;

    /// <summary>What each method of long context would hold after so many tokens, for the set-up of the Infini-attention
    /// paper.</summary>
    /// <param name="tokens">Length of the past.</param>
    /// <returns>Numbers and bytes by method.</returns>
    /// <exception cref="InfiniException">InvalidArgument: tokens is negative or too large.</exception>
    public static Footprint PaperFootprint(long tokens) => JsonSerializer.Deserialize(
        Utf8.Text((buffer, capacity, size) => Native.infini_paper_footprint_json(tokens, buffer, capacity, size)),
        LibraryJson.Default.Footprint)!;

    /// <summary>What the snapshot in a file holds. No model is needed.</summary>
    /// <param name="path">The file.</param>
    /// <param name="verify">Whether the checksum of every part is compared too, which takes a pass over the file.</param>
    /// <param name="progress">Hears, on other threads, of stage "inspect", in bytes.</param>
    /// <param name="cancellation">Cancels that pass.</param>
    /// <returns>Its kind, name, model, position, parts, ...</returns>
    /// <exception cref="InfiniException">Version, Checksum, Format, Truncated, Io.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public static SnapshotInfo InspectSnapshot(string path, bool verify = false, IProgress<WorkProgress>? progress = null,
                                               CancellationToken cancellation = default) =>
        JsonSerializer.Deserialize(InspectSnapshotJson(path, verify, progress, cancellation), LibraryJson.Default.SnapshotInfo)!;

    /// <summary>What a snapshot holds. No model is needed.</summary>
    /// <param name="snapshot">Its bytes.</param>
    /// <param name="verify">Whether the checksum of every part is compared too.</param>
    /// <param name="progress">As for a file.</param>
    /// <param name="cancellation">As for a file.</param>
    /// <returns>As for a file.</returns>
    /// <exception cref="InfiniException">Version, Checksum, Format, Truncated.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public static SnapshotInfo InspectSnapshot(ReadOnlySpan<byte> snapshot, bool verify = false,
                                               IProgress<WorkProgress>? progress = null, CancellationToken cancellation = default)
    {
        fixed (byte* data = snapshot)
        {
            byte* pinned = data;
            nuint count = (nuint)snapshot.Length;
            string json = Inspect((task, buffer, capacity, size) => Native.infini_snapshot_json_buffer(
                pinned, count, verify ? SnapshotVerify : 0, task, buffer, capacity, size), progress, cancellation, null);
            return JsonSerializer.Deserialize(json, LibraryJson.Default.SnapshotInfo)!;
        }
    }

    /// <summary>All that the library says of the snapshot in a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="verify">As in <see cref="InspectSnapshot(string, bool, IProgress{WorkProgress}, CancellationToken)"/>.</param>
    /// <param name="progress">As there.</param>
    /// <param name="cancellation">As there.</param>
    /// <returns>A JSON object: "kind", "name", "note", "model", "view", "size", "sections", ...</returns>
    /// <exception cref="InfiniException">Version, Checksum, Format, Truncated, Io.</exception>
    /// <exception cref="OperationCanceledException">By <paramref name="cancellation"/>.</exception>
    public static string InspectSnapshotJson(string path, bool verify = false, IProgress<WorkProgress>? progress = null,
                                             CancellationToken cancellation = default) =>
        Inspect((task, buffer, capacity, size) => Native.infini_snapshot_json(
            path, verify ? SnapshotVerify : 0, task, buffer, capacity, size), progress, cancellation, path);

    /// <summary>Takes the oldest record out of the library's log, a queue of the newest 256.</summary>
    /// <returns>The record; null where the queue is empty.</returns>
    public static LogRecord? NextLog()
    {
        int level = 0;
        int* where = &level;
        byte[]? message = Utf8.Bytes((buffer, capacity, size) => Native.infini_log_next(where, buffer, capacity, size));
        return message is null ? null : new LogRecord((LogSeverity)level, Encoding.UTF8.GetString(message));
    }

    private const int SnapshotVerify = 2; // INFINI_SNAPSHOT_VERIFY

    private delegate int Inspector(TaskHandle task, byte* buffer, nuint capacity, nuint* size);

    private static string Inspect(Inspector inspect, IProgress<WorkProgress>? progress, CancellationToken cancellation, string? path)
    {
        byte[] json = [];
        Work.RunOnce(task =>
        {
            // Room for most, or all would be verified twice.
            json = Utf8.Bytes((buffer, capacity, size) => inspect(task, buffer, capacity, size), path, 1 << 16)!;
            return InfiniException.Ok;
        }, progress, cancellation, path);
        return Encoding.UTF8.GetString(json);
    }

    /// <summary>Refuses a library of another binary interface, and says why none could be loaded.</summary>
    internal static void RequireSameInterface()
    {
        int wanted, loaded;
        try
        {
            (wanted, loaded) = (Native.infini_package_abi_version(), Native.infini_abi_version());
        }
        catch (TypeInitializationException e) when (e.GetBaseException() is DllNotFoundException missing)
        {
            throw new DllNotFoundException(missing.Message, e); // the first call initialises what the later ones go through
        }
        if (wanted == loaded) return;
        throw new DllNotFoundException($"infini: this package was made for libinfini.so.{wanted}, but libinfini.so.{loaded} "
            + $"(version {Version}) was loaded: use the library and the package of the same version");
    }
}
