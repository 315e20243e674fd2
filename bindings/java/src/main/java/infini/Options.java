package infini;

import java.util.Arrays;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongFunction;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Values by name, such as {@code new Options().set("threads", 2).set("temperature", 0.8)}. {@link Infini#options}
 * lists the names. A method that is given options reads them and keeps nothing. May be used from any thread.
 */
public final class Options implements AutoCloseable {
  private static final Pattern ESCAPED = Pattern.compile("\\\\([n\\\\])"); // in a list

  private final Handle handle = Handle.of("options", Native::infini_options_free, Native::infini_options_create).ownedBy(this);
  private final ReentrantLock turn = new ReentrantLock();

  /** Makes an empty set, which leaves every option at its default. */
  public Options() {}

  /**
   * Sets an integer, or a number of an option of type double.
   *
   * @param name the option
   * @param value its value
   * @return this
   * @throws InfiniException UNKNOWN_OPTION (the message lists all that there are); INVALID_ARGUMENT (the value is not
   *     allowed, the message says what is)
   */
  public Options set(String name, long value) {
    call(options -> Native.infini_options_set_int(options, name, value));
    return this;
  }

  /**
   * Sets a number.
   *
   * @param name the option
   * @param value its value
   * @return this
   * @throws InfiniException as {@link #set(String, long)}
   */
  public Options set(String name, double value) {
    call(options -> Native.infini_options_set_double(options, name, value));
    return this;
  }

  /**
   * Sets a text.
   *
   * @param name the option
   * @param value its value
   * @return this
   * @throws InfiniException as {@link #set(String, long)}
   */
  public Options set(String name, String value) {
    call(options -> Native.infini_options_set_string(options, name, value));
    return this;
  }

  /**
   * Switches an option on or off: one that is 1 or 0, such as "deterministic".
   *
   * @param name the option
   * @param value whether it is on
   * @return this
   * @throws InfiniException as {@link #set(String, long)}
   */
  public Options set(String name, boolean value) {
    return set(name, value ? 1 : 0);
  }

  /**
   * Sets an option that holds several texts: "stop", the texts that end generation. Any text may be in the list.
   *
   * @param name the option
   * @param values the texts; an empty list sets none
   * @return this
   * @throws InfiniException as {@link #set(String, long)}
   */
  public Options set(String name, List<String> values) {
    return set(name, values.stream().map(text -> text.replace("\\", "\\\\").replace("\n", "\\n"))
        .collect(Collectors.joining("\n")));
  }

  /**
   * An integer that was set, or the default.
   *
   * @param name the option
   * @return its value
   * @throws InfiniException UNKNOWN_OPTION; INVALID_ARGUMENT (the option has another type)
   */
  public long getInt(String name) {
    long[] value = {0};
    call(options -> Native.infini_options_get_int(options, name, value));
    return value[0];
  }

  /**
   * A number that was set, or the default.
   *
   * @param name the option
   * @return its value
   * @throws InfiniException as {@link #getInt}
   */
  public double getDouble(String name) {
    double[] value = {0};
    call(options -> Native.infini_options_get_double(options, name, value));
    return value[0];
  }

  /**
   * A text that was set, or the default.
   *
   * @param name the option
   * @return its value
   * @throws InfiniException as {@link #getInt}
   */
  public String getString(String name) {
    return call(options -> Utf8.text((buffer, size) -> Native.infini_options_get_string(options, name, buffer, size)));
  }

  /**
   * Whether an option that is 1 or 0 is on, as set or by default.
   *
   * @param name the option
   * @return its value
   * @throws InfiniException as {@link #getInt}
   */
  public boolean getBoolean(String name) {
    return getInt(name) != 0;
  }

  /**
   * The texts of an option that holds several, as set or by default.
   *
   * @param name the option: "stop"
   * @return its texts, without empty ones
   * @throws InfiniException as {@link #getInt}
   */
  public List<String> getList(String name) {
    return Arrays.stream(getString(name).split("\n")).filter(text -> !text.isEmpty())
        .map(text -> ESCAPED.matcher(text).replaceAll(found -> found.group(1).equals("n") ? "\n" : "\\\\")).toList();
  }

  /** Frees the options. Closing again does nothing. */
  @Override public void close() {
    handle.close(options -> {});
  }

  /** Runs body with options that may be null. */
  static <T> T with(Options options, LongFunction<T> body) {
    return options == null ? body.apply(0) : options.call(body);
  }

  private <T> T call(LongFunction<T> body) {
    return handle.call(this, turn, null, body);
  }
}
