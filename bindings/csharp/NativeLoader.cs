using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace Infini;

/// <summary>Finds the native side: in the folder that AppContext's "infini.library.path" names, else where .NET looks; and says
/// what is missing where it cannot be loaded.</summary>
internal static partial class NativeLoader
{
    private const string Property = "infini.library.path", Wrapper = "infini_csharp";
    private static readonly string[] s_files = OperatingSystem.IsWindows() // the second stands on the first
        ? ["infini_native.dll", "infini_csharp.dll"]
        : ["libinfini.so.0", "libinfini_csharp.so"];

#pragma warning disable CA2255 // a resolver must be there before the first call, and must be set once
    [ModuleInitializer]
    internal static void Register() => NativeLibrary.SetDllImportResolver(typeof(NativeLoader).Assembly, Resolve);
#pragma warning restore CA2255

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? search)
    {
        if (name != Wrapper) return 0;
        string? folder = AppContext.GetData(Property) as string;
        try
        {
            if (folder is null) return NativeLibrary.Load(name, assembly, search);
            string library = Path.Combine(Path.GetFullPath(folder), s_files[0]); // by its path, so that no other of its name is taken
            if (File.Exists(library)) NativeLibrary.Load(library);
            return NativeLibrary.Load(Path.Combine(Path.GetFullPath(folder), s_files[1]));
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            string where = folder is null ? "" : $" in {folder}, which {Property} names";
            throw new DllNotFoundException($"infini: the native library could not be loaded{where}.{Explained(e.Message)}\n{e.Message}");
        }
    }

    /// <summary>What the system's words mean, where that is not plain.</summary>
    private static string Explained(string words)
    {
        if (Missing().Match(words) is { Success: true } missing)
            return $" The system has no {missing.Groups[1].Value}: install it, or use a package of the build `portable`, which needs the C library alone.";
        if (TooOld().Match(words) is { Success: true } old)
            return $" The system's C library is older than {old.Groups[1].Value}, with which this package was built.";
        return "";
    }

    // Of libraries that ours stand on; .NET's own tries are paths, or have the names of ours.
    [GeneratedRegex(@"(?<![\w/.-])(lib(?!infini)[^\s/:]+): (?:cannot open shared object file|No such file)")]
    private static partial Regex Missing();

    [GeneratedRegex(@"version [`'](GLIBC_[\d.]+)' not found")]
    private static partial Regex TooOld();
}
