package infini;

import java.util.List;

/**
 * An option, as the library documents it.
 *
 * @param name of the option
 * @param type "int", "double" or "string"
 * @param scope what it belongs to: "model", "session", ...
 * @param standard its default: a Long, a Double or a String
 * @param least the least number that is allowed; null where there is no bound
 * @param greatest the greatest number that is allowed; null where there is no bound
 * @param choices texts that are allowed; empty where any is
 * @param help what it does
 */
public record OptionInfo(String name, String type, String scope, Object standard, Number least, Number greatest,
    List<String> choices, String help) {
  static List<OptionInfo> all(String json) {
    return ((List<?>) Json.value(json)).stream().map(Json::of)
        .map(option -> new OptionInfo(option.text("name"), option.text("type"), option.text("scope"),
            option.all().get("default"), (Number) option.all().get("least"), (Number) option.all().get("greatest"),
            option.list("choices").stream().map(String.class::cast).toList(), option.text("help")))
        .toList();
  }
}
