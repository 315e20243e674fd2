using System.Globalization;

namespace Infini.Extensions.AI;

/// <summary>Keeps conversations in a folder of a local disk, each as one snapshot that the command `infini` reads too:
/// NAME.VERSION.snapshot.</summary>
public sealed class FolderConversationStore : IConversationStore
{
    private const int LongestName = 180; // bytes; with version and ending, below the 255 of file systems

    private readonly string folder;

    /// <summary>Names the folder, which is made by the first write.</summary>
    /// <param name="folder">Its path.</param>
    public FolderConversationStore(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        this.folder = Path.GetFullPath(folder);
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The name is empty or longer than a file's can be.</exception>
    /// <exception cref="IOException">The folder or a file cannot be read.</exception>
    public async ValueTask<StoredConversation?> ReadAsync(string id, string? known = null,
                                                          CancellationToken cancellation = default)
    {
        string name = NameOf(id);
        while (Newest(name) is { } file)
        {
            string version = VersionOf(file);
            if (version == known) return new(version, null);
            try
            {
                return new(version, await File.ReadAllBytesAsync(file, cancellation).ConfigureAwait(false));
            }
            catch (FileNotFoundException)
            {
                // It was replaced since.
            }
        }
        return null;
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The name is empty or longer than a file's can be.</exception>
    /// <exception cref="IOException">The folder or a file cannot be written.</exception>
    public async ValueTask<string> WriteAsync(string id, ReadOnlyMemory<byte> snapshot, string? replaces,
                                              CancellationToken cancellation = default)
    {
        string name = NameOf(id);
        Directory.CreateDirectory(folder);
        string unfinished = Path.Combine(folder, $".{Guid.NewGuid():N}.unfinished");
        try
        {
            await using (var to = new FileStream(unfinished, FileMode.CreateNew, FileAccess.Write))
            {
                await to.WriteAsync(snapshot, cancellation).ConfigureAwait(false);
                to.Flush(flushToDisk: true);
            }
            using (await LockAsync(cancellation).ConfigureAwait(false))
            {
                string? newest = Newest(name);
                if ((newest is null ? null : VersionOf(newest)) != replaces)
                    throw new ConversationConflictException(id);
                long number = newest is null ? 1 : NumberOf(newest) + 1;
                // The second half tells versions of a conversation apart that was deleted in between.
                string version = $"{number:D12}-{Guid.NewGuid():N}"[..25];
                File.Move(unfinished, Path.Combine(folder, $"{name}.{version}.snapshot"));
                Remove(name, except: version);
                return version;
            }
        }
        finally
        {
            File.Delete(unfinished);
        }
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The name is empty or longer than a file's can be.</exception>
    /// <exception cref="IOException">The folder or a file cannot be changed.</exception>
    public async ValueTask<bool> DeleteAsync(string id, CancellationToken cancellation = default)
    {
        string name = NameOf(id);
        if (Newest(name) is null) return false;
        using (await LockAsync(cancellation).ConfigureAwait(false)) return Remove(name, except: null);
    }

    // Any name, as one of a file: without separators, and without dots, which separate name and version.
    private static string NameOf(string id)
    {
        ArgumentException.ThrowIfNullOrEmpty(id);
        string name = Uri.EscapeDataString(id).Replace(".", "%2E", StringComparison.Ordinal);
        if (name.Length > LongestName)
            throw new ArgumentException($"the name takes {name.Length} bytes of a file, not {LongestName}", nameof(id));
        return name;
    }

    private string? Newest(string name) => Versions(name).MaxBy(NumberOf);

    private IEnumerable<string> Versions(string name) =>
        Directory.Exists(folder) ? Directory.EnumerateFiles(folder, name + ".*.snapshot") : [];

    private static string VersionOf(string file) => Path.GetFileName(file).Split('.')[1];

    private static long NumberOf(string file) =>
        long.Parse(VersionOf(file).Split('-')[0], NumberStyles.None, CultureInfo.InvariantCulture);

    private bool Remove(string name, string? except)
    {
        bool any = false;
        foreach (string file in Versions(name).Where(file => VersionOf(file) != except).ToList())
        {
            File.Delete(file);
            any = true;
        }
        return any;
    }

    // One writer at a time compares and replaces, in whatever process.
    private async Task<FileStream> LockAsync(CancellationToken cancellation)
    {
        string path = Path.Combine(folder, ".lock");
        for (var last = DateTime.UtcNow.AddSeconds(10); ; await Task.Delay(5, cancellation).ConfigureAwait(false))
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (DateTime.UtcNow < last && File.Exists(path))
            {
                // Another writer has it.
            }
        }
    }
}
