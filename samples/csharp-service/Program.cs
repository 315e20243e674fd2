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
using var service = new Service(model, settings, settings.Text("INFINI_STORE") is { } folder ? new FolderMemories(folder) : null);
var builder = WebApplication.CreateSlimBuilder();
builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(3));
await service.Run(builder, args.Length > 1 ? args[1] : "127.0.0.1:8080");
return 0;
