using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

/// <summary>Settings of the environment, and, where that does not name one, of the file INFINI_CONFIG: lines NAME=VALUE.</summary>
internal sealed class Settings
{
    private readonly Dictionary<string, string> values = [];

    internal Settings()
    {
        if (Environment.GetEnvironmentVariable("INFINI_CONFIG") is { Length: > 0 } path)
        {
            if (!File.Exists(path)) throw Bad($"INFINI_CONFIG names {path}, which is no file");
            foreach (var (line, number) in File.ReadLines(path).Select((line, i) => (line.Trim(), i + 1)))
            {
                if (line == "" || line[0] == '#') continue;
                int equals = line.IndexOf('=');
                if (equals < 0) throw Bad($"{path}: line {number} is not NAME=VALUE");
                values[line[..equals].Trim()] = line[(equals + 1)..].Trim();
            }
        }
        foreach (System.Collections.DictionaryEntry pair in Environment.GetEnvironmentVariables())
        {
            if (pair.Key.ToString()!.StartsWith("INFINI_", StringComparison.Ordinal)) values[pair.Key.ToString()!] = pair.Value!.ToString()!;
        }
    }

    internal string? Text(string name) => values.GetValueOrDefault(name) is { Length: > 0 } value ? value : null;

    /// <summary>Values with commas between.</summary>
    internal string[] List(string name) =>
        (Text(name) ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);

    internal long Number(string name, long otherwise)
    {
        if (Text(name) is not { } text) return otherwise;
        return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long value) ? value
            : throw Bad($"{name} is \"{text}\", but must be a whole number, at least 0");
    }

    /// <summary>The store that INFINI_STORE names, else a folder of the user's for the model's file; null:
    /// none.</summary>
    internal string? Store(string model)
    {
        if (Text("INFINI_STORE") is { } named) return named == "none" ? null : named;
        if (Variable("STATE_DIRECTORY")?.Split(':')[0] is { Length: > 0 } folder) return folder; // of systemd
        string? state = Variable("XDG_STATE_HOME");
        if (state is null && Variable("HOME") is { } home) state = Path.Combine(home, ".local", "state");
        string stem = Path.GetFileName(model);
        if (stem.EndsWith(".gguf", StringComparison.Ordinal)) stem = Path.GetFileNameWithoutExtension(stem);
        return state is null ? null : Path.Combine(state, "infini", stem);
    }

    private static string? Variable(string name) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

    // Ends the service, which has not begun.
    private static Exception Bad(string what)
    {
        Console.Error.WriteLine(what);
        Environment.Exit(1);
        return new FormatException(what);
    }

    internal TimeSpan Seconds(string name, long otherwise) => TimeSpan.FromSeconds(Number(name, otherwise));
}

/// <summary>What is known of a request, to be counted and logged.</summary>
internal sealed class Account
{
    internal long Came { get; } = Stopwatch.GetTimestamp();
    internal string Client { get; set; } = ""; // who asks, for turns
    internal long Read { get; set; } // tokens
    internal long Written { get; set; }
    internal bool Spoke { get; set; } // there was text
    internal bool Kept { get; set; } // something of the request is in a memory
    internal CancellationToken Late { get; set; } // cancelled when the request has taken as long as it may
    internal TimeSpan Took => Stopwatch.GetElapsedTime(Came);

    internal static Account Of(HttpContext context) => (Account)context.Items[typeof(Account)]!;
}

/// <summary>What operators expect: logs, tokens, probes and metrics.</summary>
internal sealed partial class Operators(Settings settings, Sessions sessions, Work work)
{
    /// <summary>Lets the page run what is in it, and ask this service alone.</summary>
    internal const string PagePolicy =
        "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'";

    private static readonly TimeSpan BetweenSamples = TimeSpan.FromSeconds(5); // of the totals
    private static readonly double[] Buckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

    private readonly byte[][] tokens = [.. settings.List("INFINI_TOKEN").Select(token => SHA256.HashData(Encoding.UTF8.GetBytes("Bearer " + token)))];
    private readonly string[] origins = settings.List("INFINI_CORS");
    private readonly bool logs = settings.Text("INFINI_LOG") != "off";
    private readonly object mutex = new();
    private readonly SortedDictionary<int, long> requests = []; // by status
    private readonly long[] first = new long[Buckets.Length + 1]; // of seconds to the first text: how many came in each bucket, and later
    private readonly Queue<(long Time, long Read, long Written)> minute = // totals of the last one, the oldest first
        new([(Stopwatch.GetTimestamp(), 0, 0)]);
    private long read, written;
    private double seconds;

    /// <summary>Lets in who has a token, all of which are compared, each in the same time, and who asks whether the service lives and
    /// takes requests. Whether there is more to answer.</summary>
    internal bool Admit(HttpContext context)
    {
        var request = context.Request;
        if (AllowOrigin(context)) return false;
        if (request.Method == "GET" && request.Path.Value is "/" or "/healthz" or "/readyz") return true;
        byte[] given = SHA256.HashData(Encoding.UTF8.GetBytes(request.Headers.Authorization.ToString()));
        int who = -1;
        for (int i = 0; i < tokens.Length; ++i)
        {
            if (CryptographicOperations.FixedTimeEquals(given, tokens[i])) who = i;
        }
        if (who < 0) throw new Refusal(401, "UNAUTHORIZED", "the Authorization header must be: Bearer TOKEN");
        Account.Of(context).Client = $"{who} {context.Connection.RemoteIpAddress}";
        return true;
    }

    // Lets pages of the origins that were named ask. Whether it answered what browsers ask before.
    private bool AllowOrigin(HttpContext context)
    {
        string origin = context.Request.Headers.Origin.ToString();
        if (origin == "" || !origins.Any(allowed => allowed == "*" || allowed == origin)) return false;
        context.Response.Headers.AccessControlAllowOrigin = origin;
        context.Response.Headers.Vary = "Origin";
        if (context.Request.Method != "OPTIONS") return false;
        context.Response.Headers.AccessControlAllowMethods = "GET, POST, PUT, DELETE";
        string asked = context.Request.Headers.AccessControlRequestHeaders.ToString();
        context.Response.Headers.AccessControlAllowHeaders =
            asked.Length <= 1 << 10 && Tokens().IsMatch(asked) ? asked : "Authorization, Content-Type, Infini-Memory";
        context.Response.StatusCode = 204;
        return true;
    }

    /// <summary>Counts how long the first text took.</summary>
    internal void FirstToken(Account account)
    {
        if (account.Spoke) return;
        account.Spoke = true;
        double took = account.Took.TotalSeconds;
        lock (mutex)
        {
            ++first[Buckets.Count(bucket => bucket < took)];
            seconds += took;
        }
    }

    /// <summary>Counts and logs a request that has ended.</summary>
    internal void Ended(HttpContext context)
    {
        var account = Account.Of(context);
        int status = context.Response.StatusCode;
        lock (mutex)
        {
            requests[status] = requests.GetValueOrDefault(status) + 1;
            read += account.Read;
            written += account.Written;
        }
        string path = status is 401 or 404 ? "" : Named().Replace(context.Request.Path.Value!, "/$1/{}"); // an unknown one may be anything
        Log("info", new()
        {
            ["message"] = "request", ["method"] = context.Request.Method, ["path"] = path, ["status"] = status,
            ["ms"] = (long)account.Took.TotalMilliseconds, ["tokens_read"] = account.Read, ["tokens_written"] = account.Written,
        });
    }

    /// <summary>Writes a line of JSON of what happened, without what users wrote.</summary>
    internal void Log(string level, Dictionary<string, object> facts)
    {
        if (!logs) return;
        facts["time"] = DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", CultureInfo.InvariantCulture);
        facts["level"] = level;
        Console.Error.WriteLine(JsonSerializer.Serialize(facts));
    }

    /// <summary>Logs what failed, without the memory's name, which is the user's own words.</summary>
    internal void LogError(string what, Exception e) =>
        Log("error", new() { ["message"] = what, ["error"] = Snapshot().Replace(e.Message, "{}.snapshot") });

    /// <summary>Keeps the totals of the last minute, until it is disposed of.</summary>
    internal Timer Sample() => new(_ =>
    {
        lock (mutex)
        {
            if (minute.Count > TimeSpan.FromMinutes(1) / BetweenSamples) minute.Dequeue();
            minute.Enqueue((Stopwatch.GetTimestamp(), read, written));
        }
    }, null, BetweenSamples, BetweenSamples);

    /// <summary>All of it in Prometheus's text format.</summary>
    internal async Task<string> Metrics()
    {
        int? memories = await sessions.CountMemories();
        var text = new StringBuilder();
        void Title(string name, string kind, string help) => text.Append($"# HELP infini_{name} {help}\n# TYPE infini_{name} {kind}\n");
        void One(string name, string kind, string help, double value)
        {
            Title(name, kind, help);
            text.Append(CultureInfo.InvariantCulture, $"infini_{name} {value}\n");
        }
        var (inside, waiting) = work.Working.Counts;
        var (reading, feeds) = work.Feeding.Counts;
        lock (mutex)
        {
            One("tokens_read_total", "counter", "Tokens of requests that were read.", read);
            One("tokens_written_total", "counter", "Tokens that were written.", written);
            One("queue_requests", "gauge", "Requests that wait for their turn.", waiting + feeds);
            One("active_requests", "gauge", "Requests that read or write.", inside + reading);
            One("sessions", "gauge", "Sessions in the machine's memory, those of memories among them.", sessions.Count);
            One("session_bytes", "gauge", "Bytes of these sessions.", sessions.Bytes);
            if (memories is { } known) One("memories", "gauge", "Memories, wherever they are.", known);
            var before = minute.Peek();
            double since = Math.Max(1, Stopwatch.GetElapsedTime(before.Time).TotalSeconds);
            double Rate(long tokens) => Math.Round(tokens / since, 1);
            One("read_tokens_per_second", "gauge", "Tokens that were read, in the last minute.",
                Rate(read - before.Read));
            One("write_tokens_per_second", "gauge", "Tokens that were written, in the last minute.",
                Rate(written - before.Written));
            text.Append("# HELP process_resident_memory_bytes Memory of the process.\n")
                .Append("# TYPE process_resident_memory_bytes gauge\n")
                .Append(CultureInfo.InvariantCulture, $"process_resident_memory_bytes {Environment.WorkingSet}\n");
            Title("requests_total", "counter", "Requests that have ended, by the status of the answer.");
            foreach (var (status, count) in requests) text.Append(CultureInfo.InvariantCulture, $"infini_requests_total{{status=\"{status}\"}} {count}\n");
            Title("first_token_seconds", "histogram", "From the request to its first text.");
            long sum = 0;
            for (int i = 0; i < first.Length; ++i)
            {
                string bound = i < Buckets.Length ? Buckets[i].ToString(CultureInfo.InvariantCulture) : "+Inf";
                text.Append(CultureInfo.InvariantCulture, $"infini_first_token_seconds_bucket{{le=\"{bound}\"}} {sum += first[i]}\n");
            }
            text.Append(CultureInfo.InvariantCulture, $"infini_first_token_seconds_sum {seconds}\ninfini_first_token_seconds_count {sum}\n");
        }
        return text.ToString();
    }

    [GeneratedRegex("^/(sessions|v1/memories)/[^/]+")]
    private static partial Regex Named();

    [GeneratedRegex(@"[^/\\ ]+\.snapshot")]
    private static partial Regex Snapshot();

    [GeneratedRegex(@"^[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*\z")] // of HTTP
    private static partial Regex Tokens();
}
