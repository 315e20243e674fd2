package infini;

import java.util.List;
import java.util.Optional;

/** What belongs to the library as a whole. May be used from any thread. */
public final class Infini {
  private Infini() {}

  /** How much a log record matters. */
  public enum LogLevel {
    /** For those who look for a fault. */
    DEBUG,
    /** For the record. */
    INFO,
    /** For someone to read. */
    WARNING
  }

  /**
   * One record of the log.
   *
   * @param level how much it matters
   * @param message what it says
   */
  public record LogRecord(LogLevel level, String message) {}

  /**
   * The library's version.
   *
   * @return "MAJOR.MINOR.PATCH"
   */
  public static String version() {
    return Native.infini_version();
  }

  /**
   * The table of all options.
   *
   * @return the options, in the order of their documentation
   */
  public static List<OptionInfo> options() {
    return OptionInfo.all(Utf8.text(Native::infini_options_json));
  }

  /**
   * What each method of long context would hold after so many tokens, for the set-up of the Infini-attention paper.
   *
   * @param tokens length of the past
   * @return what each would hold
   * @throws InfiniException INVALID_ARGUMENT: tokens is negative or too large
   */
  public static Footprint paperFootprint(long tokens) {
    return Footprint.of(Utf8.text((buffer, size) -> Native.infini_paper_footprint_json(tokens, buffer, size)));
  }

  /**
   * Takes the oldest record out of the library's log, a queue of the newest 256.
   *
   * @return the record; empty where the queue is
   */
  public static Optional<LogRecord> nextLog() {
    int[] level = {0};
    byte[] message = Utf8.bytes((buffer, size) -> Native.infini_log_next(level, buffer, size));
    return Optional.ofNullable(message)
        .map(bytes -> new LogRecord(LogLevel.values()[Math.min(level[0], 2)], Utf8.decode(bytes)));
  }
}
