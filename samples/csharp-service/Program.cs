// Serves sessions of one model over HTTP, with ASP.NET Core. samples/SERVICES.md describes its calls, which the services in
// the other languages have too.
//   INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]
var settings = new Settings();
if (args.Length < 1 || settings.List("INFINI_TOKEN").Length == 0)
{
    Console.Error.WriteLine("usage: INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]");
    return 1;
}
using var model = Service.Open(args[0]);
IMemoryStore? store;
try
{
    string? named = settings.Store(args[0]);
    bool database = named?.Split(':') is ["sqlite" or "postgres" or "postgresql", _, ..];
#if DATABASES
    store = named is null ? null : database ? new DatabaseMemories(named) : new FolderMemories(named);
#else
    if (database) throw new NotSupportedException("this service was built without databases");
    store = named is null ? null : new FolderMemories(named);
#endif
}
catch (Exception e) when (e is IOException or System.Data.Common.DbException or NotSupportedException or ArgumentException or
    UriFormatException or UnauthorizedAccessException)
{
    Console.Error.WriteLine("INFINI_STORE cannot be used: " + e.Message);
    return 1;
}
using var service = new Service(model, settings, store);
var builder = WebApplication.CreateSlimBuilder();
await service.Run(builder, args.Length > 1 ? args[1] : "127.0.0.1:8080", TimeSpan.FromSeconds(3));
return 0;
