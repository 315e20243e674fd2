namespace Infini;

/// <summary>What kind of error a call met. The numbers are those of the C interface and never change; a newer library may
/// have more.</summary>
public enum Status
{
    /// <summary>An argument is out of range or not what it should be.</summary>
    InvalidArgument = 100,
    /// <summary>No option has that name.</summary>
    UnknownOption = 101,
    /// <summary>A buffer is smaller than what it should take.</summary>
    BufferTooSmall = 102,
    /// <summary>A file could not be opened, read, written or replaced.</summary>
    Io = 200,
    /// <summary>The disk or the file-size limit is full.</summary>
    NoSpace = 201,
    /// <summary>A file is damaged or is not what it claims to be.</summary>
    Format = 300,
    /// <summary>A file ends before its contents do.</summary>
    Truncated = 301,
    /// <summary>A snapshot belongs to another model.</summary>
    ModelMismatch = 400,
    /// <summary>A file was written by a newer version.</summary>
    Version = 500,
    /// <summary>A checksum does not match: the file was changed or damaged.</summary>
    Checksum = 600,
    /// <summary>Memory could not be allocated.</summary>
    OutOfMemory = 700,
    /// <summary>The call was cancelled.</summary>
    Cancelled = 800,
    /// <summary>The call does not fit the state of the object.</summary>
    State = 900,
    /// <summary>Valid, but not something this version can do.</summary>
    Unsupported = 1000,
    /// <summary>A fault of the library itself; please report it.</summary>
    Internal = 1100,
}

/// <summary>What a call of the library failed with: a status, and a message that says what failed, where and what to do. Where
/// a file, or its folder, is not there or may not be used, <see cref="Exception.InnerException"/> is what .NET says of that: a
/// <see cref="FileNotFoundException"/>, <see cref="DirectoryNotFoundException"/> or
/// <see cref="UnauthorizedAccessException"/>.</summary>
public sealed class InfiniException : Exception
{
    internal const int Ok = 0, End = 1;
    private const int NoPermission = 1, NoEntry = 2, NoAccess = 13, NotDirectory = 20; // of Linux

    internal InfiniException(int status, string message, string? path) : base(message, OfSystem(message, path)) =>
        Status = (Status)status;

    /// <summary>What kind of error this is.</summary>
    public Status Status { get; }

    /// <summary>Throws what a call that ended with a status failed with. On the thread that made the call.</summary>
    internal static int Check(int status, string? path = null)
    {
        if (status is Ok or End) return status;
        throw new InfiniException(status, Native.infini_last_error(), path);
    }

    // As .NET says what the system said of a path.
    private static Exception? OfSystem(string message, string? path)
    {
        if (string.IsNullOrEmpty(path)) return null;
        return Native.infini_last_os_error() switch
        {
            NoEntry or NotDirectory => Directory.Exists(Path.GetDirectoryName(Path.GetFullPath(path)))
                ? new FileNotFoundException(message, path) : new DirectoryNotFoundException(message),
            NoAccess or NoPermission => new UnauthorizedAccessException(message),
            _ => null,
        };
    }
}
