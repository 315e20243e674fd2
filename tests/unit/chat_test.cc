// Chat templates. The expected texts are what a Jinja interpreter makes of the models' own templates.
#include "text/chat.h"

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "format/gguf.h"
#include "support.h"

using infini::apply_chat_template;
using infini::chat_template_name;
using infini::Error;
using infini::Status;
using Messages = std::vector<infini::ChatMessage>;

namespace {

const std::string smollm2 =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}";
// As Qwen 2.5's: the newlines written as \n, and other system turns that are no literal text.
const std::string qwen25 =
    R"({%- if tools %}{{- '<|im_start|>system\n' }}{{- messages[0]['content'] }}{{- "# Tools<|im_end|>\n" }}{%- else %}
{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
{%- endif %}{%- endif %})";
const std::string plain_chatml = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'}}";
const std::string llama2 =
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{{ ' '  + content.strip() + ' ' + eos_token }}";
const std::string llama3 =
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
    "'<|eot_id|>' %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}";
const std::string llama32 =
    R"({%- set date_string = strftime_now("%d %b %Y") %}{%- set date_string = "26 Jul 2024" %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}{{- system_message }}{{- "<|eot_id|>" }})";
const std::string zephyr =
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}";
const std::string gemma = "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}";

const Messages question = {{"user", "Hi"}};
const Messages briefed = {{"system", "Be brief."}, {"user", " What is 7 times 8? "}};
const Messages talk = {{"user", "Hi"}, {"assistant", " Hello! "}, {"user", "More\n"}};

Status status_of(const std::string &chat_template, const Messages &messages) {
  try {
    apply_chat_template(chat_template, messages, true);
  } catch (const Error &error) { return error.status(); }
  return Status::OK;
}

}  // namespace

TEST_CASE("each template is recognised") {
  CHECK(chat_template_name(smollm2) == "chatml");
  CHECK(chat_template_name(qwen25) == "chatml");
  CHECK(chat_template_name(llama2) == "llama2");
  CHECK(chat_template_name(llama3) == "llama3");
  CHECK(chat_template_name(llama32) == "llama3");
  CHECK(chat_template_name(zephyr) == "zephyr");
  CHECK(chat_template_name(gemma) == "gemma");
}

TEST_CASE("a template that only looks like a known one is unknown") {
  CHECK(chat_template_name("") == "");
  CHECK(chat_template_name("{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}") == "");         // Mistral
  CHECK(chat_template_name("{{'<|user|>' + '\n' + message['content'] + '<|end|>'}}") == "");                // Phi-3
  CHECK(chat_template_name("{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}") == "");  // Phi-4
  CHECK(status_of("", question) == Status::UNSUPPORTED);
  try {
    apply_chat_template("{{ message }}", question, true);
    FAIL("no error");
  } catch (const Error &error) {
    CHECK(error.status() == Status::UNSUPPORTED);
    CHECK(std::string(error.what()) == "unknown chat template; known are ChatML, Llama 2, Llama 3, Zephyr and Gemma");
  }
}

TEST_CASE("ChatML, with the default system message that the file has") {
  const std::string system =
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n";
  CHECK(apply_chat_template(smollm2, question, true) ==
        system + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(apply_chat_template(smollm2, question, false) == system + "<|im_start|>user\nHi<|im_end|>\n");
  CHECK(apply_chat_template(smollm2, briefed, true) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n What is 7 times 8? <|im_end|>\n"
        "<|im_start|>assistant\n");
  CHECK(apply_chat_template(smollm2, talk, true) ==
        system +
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n Hello! <|im_end|>\n"
            "<|im_start|>user\nMore\n<|im_end|>\n<|im_start|>assistant\n");
  CHECK(apply_chat_template(qwen25, question, false) ==
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n");
  CHECK(apply_chat_template(plain_chatml, question, false) == "<|im_start|>user\nHi<|im_end|>\n");
}

TEST_CASE("a conversation goes on without a second beginning") {
  CHECK(apply_chat_template(smollm2, question, true, false) ==
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(apply_chat_template(llama32, question, true, false) ==
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  CHECK(apply_chat_template(llama2, question, true, false) == "<s>[INST] Hi [/INST]");
}

TEST_CASE("Llama 2") {
  CHECK(apply_chat_template(llama2, question, true) == "[INST] Hi [/INST]");
  CHECK(apply_chat_template(llama2, briefed, true) ==
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n What is 7 times 8? [/INST]");
  CHECK(apply_chat_template(llama2, talk, true) == "[INST] Hi [/INST] Hello! </s><s>[INST] More [/INST]");
}

TEST_CASE("Llama 3, and from 3.1 on with its dates") {
  const std::string reply = "<|start_header_id|>assistant<|end_header_id|>\n\n";
  const std::string briefed_user = "<|start_header_id|>user<|end_header_id|>\n\nWhat is 7 times 8?<|eot_id|>";
  const std::string dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
  const std::string system = "<|start_header_id|>system<|end_header_id|>\n\n";
  CHECK(apply_chat_template(llama3, briefed, true) == system + "Be brief.<|eot_id|>" + briefed_user + reply);
  CHECK(apply_chat_template(llama3, talk, false) ==
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "Hello!<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nMore<|eot_id|>");
  CHECK(apply_chat_template(llama32, briefed, true) == system + dates + "Be brief.<|eot_id|>" + briefed_user + reply);
  CHECK(apply_chat_template(llama32, question, true) ==
        system + dates + "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>" + reply);
}

TEST_CASE("Zephyr, with the end token of the model") {
  CHECK(apply_chat_template(zephyr, briefed, true) ==
        "<|system|>\nBe brief.</s>\n<|user|>\n What is 7 times 8? </s>\n<|assistant|>\n");
  CHECK(apply_chat_template(zephyr, talk, false, true, "<|endoftext|>") ==
        "<|user|>\nHi<|endoftext|>\n<|assistant|>\n Hello! <|endoftext|>\n<|user|>\nMore\n<|endoftext|>\n");
}

TEST_CASE("Gemma, with the system message in the user's turn") {
  CHECK(apply_chat_template(gemma, briefed, true) ==
        "<start_of_turn>user\nBe brief.\n\nWhat is 7 times 8?<end_of_turn>\n<start_of_turn>model\n");
  CHECK(apply_chat_template(gemma, talk, false) ==
        "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
        "<start_of_turn>user\nMore<end_of_turn>\n");
  CHECK(status_of(gemma, {{"system", "alone"}}) == Status::INVALID_ARGUMENT);
}

TEST_CASE("a generated reply is closed as the template closes it") {
  for (const std::string &each : {smollm2, llama2, llama3, zephyr, gemma}) {
    const Messages reply = {{"user", "Hi"}, {"assistant", "Hello"}};
    const std::string prompt = apply_chat_template(each, {reply[0]}, true);
    const std::string generated = each == llama2 ? " Hello" : "Hello";
    CHECK(prompt + generated + infini::chat_turn_end(each) == apply_chat_template(each, reply, false));
  }
}

TEST_CASE("an unknown role is an error that names it") {
  try {
    apply_chat_template(smollm2, {{"user", "a"}, {"tool", "b"}}, true);
    FAIL("no error");
  } catch (const Error &error) {
    CHECK(error.status() == Status::INVALID_ARGUMENT);
    CHECK(std::string(error.what()) == "message 1 has the role 'tool'; roles are system, user and assistant");
  }
  CHECK(status_of(llama2, {{"", "a"}}) == Status::INVALID_ARGUMENT);
}

TEST_CASE("SmolLM2's own template gives the reference's chat text") {
  const std::string folder = test::data("models/smollm2");
  if (folder.empty()) return;
  const infini::Gguf gguf = infini::Gguf::open(folder + "/SmolLM2-135M-Instruct.Q4_1.gguf");
  const std::string &chat_template = gguf.get_string("tokenizer.chat_template");
  CHECK(chat_template == smollm2);
  const nlohmann::json golden = nlohmann::json::parse(test::read_text(folder + "/golden.json"));
  CHECK(apply_chat_template(chat_template, {{"user", "What is 7 times 8?"}}, true) ==
        golden["chat"]["text"].get<std::string>());
}
