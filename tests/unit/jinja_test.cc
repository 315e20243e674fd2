// The language of chat templates. What is expected is what Jinja2 3.1 makes of them, with the settings of transformers.
#include "text/jinja.h"

#include "base/status.h"
#include "support.h"

using infini::Error;
using infini::Status;
namespace jinja = infini::jinja;

namespace {

jinja::Text rendered(const std::string &source, const std::string &json = "{}") {
  jinja::Dict values;
  const auto object = nlohmann::ordered_json::parse(json);
  for (const auto &[name, value] : object.items()) values.emplace_back(jinja::Text(name), jinja::Value::of_json(value));
  return jinja::render(jinja::parse(source), values);
}
std::string render(const std::string &source, const std::string &json = "{}") { return rendered(source, json).text; }

std::string refusal(const std::string &source, Status status = Status::UNSUPPORTED) {
  try {
    return "rendered: " + render(source);
  } catch (const Error &error) {
    CHECK(error.status() == status);
    return error.what();
  }
}

}  // namespace

TEST_CASE("white space between tags") {
  CHECK(render("a\n{% if true %}\nb\n{% endif %}\nc\n") == "a\nb\nc");
  CHECK(render("a\n  {% if true %}  b{% endif %}\n  c") == "a\n  b  c");
  CHECK(render("a \n {%- if true -%} \n b \n {%- endif %} c") == "ab c");
  CHECK(render("x {{- ' y ' -}} z") == "x y z");
  CHECK(render("  {{ 1 }}\n{{ 2 }}") == "  1\n2");
  CHECK(render("a {#- note -#} b{# { %} #}\nc") == "abc");
  CHECK(render("  {%+ if true %}x{% endif %}") == "  x");
  CHECK(render("{ a } {b}") == "{ a } {b}");
}

TEST_CASE("values and operators") {
  CHECK(render("{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 }} {{ 1.5 }}") ==
        "6 3.5 -4 2 8 1.5");
  CHECK(render("{{ 'a' ~ 1 ~ none ~ true }} {{ 'a' + 'b' }} {{ 'ab' * 2 }} {{ [1] + [2] }}") ==
        "a1NoneTrue ab abab [1, 2]");
  CHECK(
      render(
          "{{ 1 < 2 and not 2 < 1 }} {{ 1 < 2 < 2 }} {{ 'a' in 'cat' }} {{ 3 not in [1, 2] }} {{ 'k' in {'k': 1} }}") ==
      "True False True True True");
  CHECK(render(
            "{{ 'x' if 0 else 'y' }}{{ 'z' if false }} {{ 0 or 'b' }} {{ 1 and 'c' }} {{ 1 == 1.0 }} {{ '1' == 1 }}") ==
        "y b c True False");
  CHECK(render("{{ [1, 'a', none, {'b': [1, 2]}] }} {{ (1) }} {{ 'it\\'s' }} {{ \"\\u00e9\\n\" }}") ==
        "[1, 'a', None, {'b': [1, 2]}] 1 it's \u00e9\n");
  CHECK(render(
            "{{ l[0] }}{{ l[-1] }}{{ l[1:] }}{{ l[::-1] }}{{ t[1:3] }}{{ t[-1] }}{{ d.k.j }}{{ d['k']['j'] }}{{ l.0 }}",
            R"({"l": [1, 2, 3], "t": "aébc", "d": {"k": {"j": 7}}})") == "13[2, 3][3, 2, 1]ébc771");
  CHECK(render("{{ nothing }}{{ d.nothing }}{{ nothing is defined }}{{ d.k is not none }}", R"({"d": {"k": 1}})") ==
        "FalseTrue");
}

TEST_CASE("statements") {
  CHECK(render("{% for i in range(3) %}{{ loop.index }}{{ loop.first }}{{ loop.last }},{% endfor %}") ==
        "1TrueFalse,2FalseFalse,3FalseTrue,");
  CHECK(render("{% for k, v in d.items() if v > 1 %}{{ k }}{{ v }}{% else %}none{% endfor %}",
               R"({"d": {"a": 1, "c": 3, "b": 2}})") == "c3b2");
  CHECK(render("{% for i in [] %}x{% else %}empty{% endfor %}") == "empty");
  CHECK(
      render(
          "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}"
          "{% endfor %}") == "02");
  CHECK(render("{% set x = 1 %}{% for i in [1, 2] %}{% set x = 5 %}{% endfor %}{{ x }}") == "1");
  CHECK(render("{% set n = namespace(x=1) %}{% for i in [1, 2] %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}") == "4");
  CHECK(render("{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c %}<{{ a }}>{% endset %}{{ c }}") == "12<1>");
  CHECK(render("{% macro m(a, b='x') %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, b=2) }}{{ m(a=3) | length }}") ==
        "[1x][12]4");
  CHECK(render("{% if false %}a{% elif 1 %}b{% else %}c{% endif %}{% if none %}a{% else %}c{% endif %}") == "bc");
  CHECK(render("{% generation %}x{% endgeneration %}") == "x");
}

TEST_CASE("filters, tests and methods") {
  CHECK(render("{{ ' a ' | trim }}|{{ 'Ab cD' | upper }}|{{ 'Ab cD' | title }}|{{ 'aB' | capitalize }}") ==
        "a|AB CD|Ab Cd|Ab");
  CHECK(render("{{ [3, 1, 2] | sort | join('-') }} {{ 'abc' | length }} {{ [1, 2] | first }}{{ [1, 2] | last }} {{ x | "
               "default('d') }}") == "1-2-3 3 12 d");
  CHECK(render("{{ v | tojson }}\n{{ v | tojson(indent=2) }}",
               R"({"v": {"b": [1, "é\"<", null, true, 0.5], "a": {}}})") ==
        "{\"b\": [1, \"é\\\"<\", null, true, 0.5], \"a\": {}}\n{\n  \"b\": [\n    1,\n    \"é\\\"<\",\n    null,\n    "
        "true,\n    0.5\n  ],"
        "\n  \"a\": {}\n}");
  CHECK(render("{{ m | selectattr('r', 'equalto', 'u') | map(attribute='c') | join(',') }} {{ m | rejectattr('r', "
               "'eq', 'u') | list | length }}",
               R"({"m": [{"r": "u", "c": 1}, {"r": "s", "c": 2}, {"r": "u", "c": 3}]})") == "1,3 1");
  CHECK(render("{{ 'a b  c'.split() }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ "
               "'</t>x</t>y'.split('</t>')[-1] }}") == "['a', 'b', 'c']['a', 'b,c']['a,b', 'c']y");
  CHECK(
      render("{{ 'xaxx'.strip('x') }}{{ 'xa'.lstrip('x') }}{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', 'c')) }}"
             "{{ 'a-b'.replace('-', '+') }}{{ 'abc'.find('c') }}{{ 'prefix'.removeprefix('pre') }}") ==
      "aaTrueTruea+b2fix");
  CHECK(render("{{ d.get('a') }}{{ d.get('z', 5) }}{{ d.keys() | list }}{{ 3 is odd }}{{ 'a' is string }}{{ d is "
               "mapping }}{{ 4 is divisibleby 2 }}",
               R"({"d": {"a": 1}})") == "15['a']TrueTrueTrueTrue");
  CHECK(render("{{ '3' | int + 1 }}{{ '2.5' | float }}{{ 'a\nb' | indent(2) }}{{ 'a\nb' | indent(2, true) }}{{ 2.4 | "
               "round | int }}") == "42.5a\n  b  a\n  b2");
}

TEST_CASE("words of messages stay words whatever a template does to them") {
  const auto words = [](const std::string &source) {
    const jinja::Text text = rendered(source, R"({"w": " Ab,<|x|> "})");
    std::string marked = text.text;
    for (size_t i = text.contents.size(); i-- > 0;) {
      marked.insert(text.contents[i].end, "]");
      marked.insert(text.contents[i].begin, "[");
    }
    return marked;
  };
  CHECK(words("<{{ w }}>") == "<[ Ab,<|x|> ]>");
  CHECK(words("{{ 'a' + w | trim + 'b' }}") == "a[Ab,<|x|>]b");
  CHECK(words("{{ w.split(',')[1] }}{{ w[1:3] }}{{ w | upper }}") == "[<|x|> Ab AB,<|X|> ]");
  CHECK(words("{{ w | replace('Ab', '-') }}{{ [w, 'm'] | join(';') }}") == "[ ]-[,<|x|>  Ab,<|x|> ];m");
  CHECK(words("{{ w | tojson }}!{% set x %}({{ w }}){% endset %}{{ x }}{{ 'x' if 'Ab' in w }}") ==
        "[\" Ab,<|x|> \"]!([ Ab,<|x|> ])x");
  CHECK(words("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(w) | trim }}{{ w | length }}") == "<[ Ab,<|x|> ]>10");
}

TEST_CASE("a template may refuse its messages, in its own words") {
  CHECK(refusal("{{ raise_exception('roles must alternate') }}", Status::INVALID_ARGUMENT) ==
        "the chat template refuses the messages: roles must alternate");
}

TEST_CASE("what is no Jinja, or none that is known, is named with its line") {
  CHECK(refusal("a\n{{ 1 + }}") == "the chat template, line 2: a value is missing before ''");
  CHECK(refusal("{% if 1 %}") == "the chat template, line 1: {% endif %} is missing");
  CHECK(refusal("\n{% endfor %}") == "the chat template, line 2: 'endfor' belongs to nothing");
  CHECK(refusal("{{ x.y }}") == "the chat template, line 1: 'y' is asked of what is not there");
  CHECK(refusal("{{ 'a' | frob }}") == "the chat template, line 1: filter 'frob' is not known here");
  CHECK(refusal("{{ 1 is frob }}") == "the chat template, line 1: test 'frob' is not known here");
  CHECK(refusal("{{ 1 + 'a' }}") == "the chat template, line 1: '+' of a number and a text");
  CHECK(refusal("{{ frob(1) }}") == "the chat template, line 1: a call of undefined");
  for (const char *broken : {"{{",
                             "{%",
                             "{#",
                             "{{ 'a",
                             "{{ \"\\u12\" }}",
                             "{{ 1 ? 2 }}",
                             "{{ a b }}",
                             "{% for %}{% endfor %}",
                             "{% set %}",
                             "{{ [1, }}",
                             "{{ {1} }}",
                             "{{ f(a=) }}",
                             "{% macro m %}",
                             "{{ 99999999999999999999 }}",
                             "{% for a in 1 %}{% endfor %}",
                             "{% for a, b in [1] %}{% endfor %}",
                             "{{ 1 // 0 }}",
                             "{{ 1[::0] }}",
                             "{{ 'a'[::0] }}",
                             "{{ 'a'.split('') }}",
                             "{{ range(1, 2, 0) }}",
                             "{% set a.b = 1 %}",
                             "\xff{{ \xff }}",
                             "{{ 2 ** 9999 | int }}",
                             "{% endif %}",
                             "{{ }}",
                             "{{ () }"})
    CHECK_MESSAGE(refusal(broken).find("\n") == std::string::npos, broken);
}

TEST_CASE("a hostile template ends soon, and within bounds") {
  const std::string doubled =
      "{% set n = namespace(t='abcdefgh') %}{% for i in range(40) %}{% set n.t = n.t + n.t %}{% endfor %}";
  CHECK(refusal(doubled).find("writes too much") != std::string::npos);
  CHECK(refusal("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}").find("to an end") !=
        std::string::npos);
  CHECK(refusal("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").find("deeper than") != std::string::npos);
  CHECK(refusal("{{ range(99999999999) }}").find("a range of more than") != std::string::npos);
  const auto grown = [](const std::string &value, const std::string &then) {
    return "{% set n = namespace(l=[]) %}{% for i in range(60) %}{% set n.l = " + value + " %}{% endfor %}" + then;
  };
  CHECK(refusal(grown("[[n.l]]", "")).find("deeper") != std::string::npos);
  const std::string tower = grown("[n.l, n.l]", "");
  CHECK(render(tower + "{{ 'made' }}") == "made");
  for (const char *use : {"{{ n.l }}", "{{ n.l | tojson }}", "{{ n.l == [1] }}", "{{ 'a' ~ n.l }}", "{{ 1 in n.l }}"})
    CHECK_MESSAGE(refusal(tower + use).find("the chat template") == 0, use);
  for (const char *cycle :
       {"{% set n.x = n %}", "{% set n.x = [n] %}", "{% set n.x = {'n': n} %}", "{% set n.x = [n] + [1] %}"})
    CHECK_MESSAGE(refusal("{% set n = namespace() %}" + std::string(cycle)).find("a namespace stands within") !=
                      std::string::npos,
                  cycle);
  // As in the sandbox of transformers, nothing but a namespace changes.
  CHECK(refusal("{% set l = [] %}{{ l.append(l) }}") == "the chat template, line 1: a call of undefined");
  std::string content(1 << 20, 'a');
  for (const char *use : {"w[0]", "w[:1]", "w | length", "'b' in w", "w == v", "w | trim | first", "w.find('b')"}) {
    const std::string often = "{% for i in range(9999) %}{{ " + std::string(use) + " }}{% endfor %}";
    CHECK_THROWS_AS_MESSAGE(render(often, R"({"w": ")" + content + R"(", "v": ")" + content + "\"}"), Error, use);
  }
  CHECK(refusal("{{ 'a' * 99999999999 }}").find("the chat template") == 0);
  const auto many = [](const std::string &part, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += part;
    return all;
  };
  for (const std::string &deep :
       {"{{ " + many("(", 20000) + "1" + many(")", 20000) + " }}",
        "{{ " + many("[", 20000) + "1" + many("]", 20000) + " }}", "{{ " + many("not ", 20000) + " }}",
        "{{ " + many("-", 20000) + " }}", "{{ 1" + many("+1", 20000) + " }}", "{{ a" + many(".a", 20000) + " }}",
        "{{ 1" + many("|abs", 20000) + " }}", many("{% if 1 %}", 20000), "{{ 1" + many(" if 1 else 1", 20000) + " }}",
        "{{ 2" + many("**2", 20000) + " }}", "{{ 1" + many(" is odd", 20000) + " }}",
        "{{ a" + many("()", 20000) + " }}", "{{ " + many("{1:", 20000) + "1" + many("}", 20000) + " }}"})
    CHECK(refusal(deep).find("deeper than") != std::string::npos);
  CHECK(refusal(many("{{ 1 }}", 60000)).find("bytes; at most") != std::string::npos);
}
