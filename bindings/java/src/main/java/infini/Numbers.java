package infini;

import java.util.HashMap;
import java.util.Map;
import java.util.regex.Pattern;

/** The members of a JSON object of numbers, as the library writes it. */
final class Numbers {
  private static final Pattern MEMBER = Pattern.compile("\"(\\w+)\":([^,}]+)");

  private final Map<String, String> members = new HashMap<>();

  Numbers(String json) {
    MEMBER.matcher(json).results().forEach(member -> members.put(member.group(1), member.group(2)));
  }

  /** NaN where it is null or absent. */
  double real(String name) {
    String value = members.getOrDefault(name, "null");
    return value.equals("null") ? Double.NaN : Double.parseDouble(value);
  }

  /** 0 where it is absent. */
  long whole(String name) {
    return Long.parseLong(members.getOrDefault(name, "0"));
  }

  /** 0 where it is absent. */
  int small(String name) {
    return Math.toIntExact(whole(name));
  }
}
