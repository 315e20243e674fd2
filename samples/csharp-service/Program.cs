// Serves sessions of one model over HTTP, with ASP.NET Core. samples/SERVICES.md describes its calls, which the services in
// the other languages have too.
//   INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]
using Infini;

var settings = new Settings();
if (args.Length < 1 || settings.List("INFINI_TOKEN").Length == 0)
{
    Console.Error.WriteLine("usage: INFINI_TOKEN=secret dotnet run -- MODEL.gguf [ADDRESS]");
    return 1;
}
using var model = Model.Open(args[0]);
if (model.Info() is { TrainedMemory: false, Window: var window })
{
    Console.Error.WriteLine($"{args[0]} has no trained memory: it sees only its window of {window} tokens. "
        + $"`infini train {args[0]} --adapt` teaches it one.");
}
using var service = new Service(model, settings, settings.Text("INFINI_STORE") is { } folder ? new FolderMemories(folder) : null);
var builder = WebApplication.CreateSlimBuilder();
builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(3));
await service.Run(builder, args.Length > 1 ? args[1] : "127.0.0.1:8080");
return 0;
