// SPDX-License-Identifier: Apache-2.0

// The codec of ext_authz against protobuf's own, and what it makes of several answers against a
// model of what Envoy 1.40 does, on random messages.
#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "host/base/ascii.h"
#include "host/wire/attribute_record.h"
#include "host/wire/check_effect.h"
#include "host/wire/check_request.h"
#include "host/wire/check_response.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"
#include "tests/fuzz/check_driver.h"
#include "tests/host/unary/check_fixture.h"

namespace callout::host {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr int kRounds = 3000;

class CheckCodecTest : public testing::Test {
 protected:
  CheckCodecTest() : seed_(std::random_device()()), random_(seed_) {}
  unsigned Below(unsigned end) { return static_cast<unsigned>(random_() % end); }
  std::string Text(const char* prefix) { return prefix + std::to_string(Below(30)); }
  std::string Name() {
    static constexpr const char* kNames[] = {"one", "two", "Three", "four", "cookie"};
    return kNames[Below(5)];
  }

  CheckRequest RandomRequest() {
    CheckRequest request = Request({}, "/p?" + Text("a=") + "&" + Text("b="));
    auto* context = request.mutable_attributes();
    auto* http = context->mutable_request()->mutable_http();
    for (unsigned i = Below(5); i > 0; --i) (*http->mutable_headers())[Text("x-")] = Text("v");
    if (Below(2) == 0) (*http->mutable_headers())["one"] = "1";
    if (Below(2) == 0) (*http->mutable_headers())["cookie"] = "c=1";
    if (Below(3) == 0) http->set_body(Text("body"));
    if (Below(3) == 0) context->mutable_source()->set_principal(Text("p"));
    if (Below(3) == 0) {
      (*context->mutable_context_extensions())[Text("k")] = Text("v");
    }
    if (Below(3) == 0) (*context->mutable_metadata_context()->mutable_filter_metadata())["ns"];
    if (Below(2) == 0) {
      for (const auto& [name, value] : http->headers()) {
        auto* header = http->mutable_header_map()->add_headers();
        header->set_key(name);
        header->set_raw_value(value);
      }
      http->clear_headers();
    }
    return request;
  }

  const unsigned seed_;
  std::mt19937 random_;
};

std::multimap<std::string, std::string> HeadersOf(const CheckRequest& request) {
  std::multimap<std::string, std::string> headers;
  const auto& http = request.attributes().request().http();
  for (const auto& [name, value] : http.headers()) headers.emplace(name, value);
  for (const auto& h : http.header_map().headers()) headers.emplace(h.key(), h.raw_value());
  return headers;
}

// As in every map of protobuf; few names are compared with each other, many by a table.
TEST_F(CheckCodecTest, OfANameThatStandsThereTwiceTheLastValueCounts) {
  for (const int names : {1, 2, 31, 32, 33, 100}) {
    std::string http;
    const auto add = [&http](const std::string& name, const std::string& value) {
      AppendMapEntry(field::HttpRequest::kHeaders, name, value, &http);
    };
    for (int i = 0; i < names; ++i) add("x-" + std::to_string(i), "first");
    for (const bool again : {false, true}) {
      if (again) add("x-0", "last");
      std::string request, attributes, bytes;
      AppendBytes(field::Request::kHttp, http, &request);
      AppendBytes(field::AttributeContext::kRequest, request, &attributes);
      AppendBytes(field::CheckRequest::kAttributes, attributes, &bytes);
      const auto view = ParseCheckRequest(bytes, 1000);
      ASSERT_TRUE(view.ok());
      ASSERT_EQ(view->headers.size(), static_cast<size_t>(names)) << again;
      CheckRequest message;
      ASSERT_TRUE(message.ParseFromString(bytes));
      for (const auto& header : view->headers) {
        EXPECT_EQ(header.value,
                  message.attributes().request().http().headers().at(std::string(header.name)));
      }
    }
  }
}

// A CheckRequest whose map of headers has these entries.
std::string WithEntries(const std::vector<std::string>& entries) {
  std::string http, request, attributes, bytes;
  for (const std::string& entry : entries) AppendBytes(field::HttpRequest::kHeaders, entry, &http);
  AppendBytes(field::Request::kHttp, http, &request);
  AppendBytes(field::AttributeContext::kRequest, request, &attributes);
  AppendBytes(field::CheckRequest::kAttributes, attributes, &bytes);
  return bytes;
}

// Whether the codec reads of `bytes` what protobuf reads.
void ExpectReadAsProtobufDoes(const std::string& bytes) {
  CheckRequest message;
  const bool is_message = message.ParseFromString(bytes);
  const auto view = ParseCheckRequest(bytes, 1000);
  ASSERT_EQ(view.ok(), is_message);
  if (!is_message) return;
  std::multimap<std::string, std::string> headers;
  for (const auto& header : view->headers) headers.emplace(header.name, header.value);
  EXPECT_EQ(headers, HeadersOf(message));
}

// Short entries are read in one go, where they are as encoders write them.
TEST_F(CheckCodecTest, AnEntryOfTheMapIsReadInEveryForm) {
  const auto record = [](uint32_t number, const std::string& text) {
    std::string bytes;
    AppendBytes(number, text, &bytes);
    return bytes;
  };
  const std::string long_length("\x0a\x81\x00k", 4);  // of one byte, in two
  const std::string other_type("\x08\x05", 2);
  std::vector<std::string> texts = {"", "v", std::string(127, 'a'), std::string(128, 'b')};
  for (const std::string& name : texts) {
    for (const std::string& text : texts) {
      const std::string key = record(1, name), value = record(2, text), unknown = record(3, text);
      for (const std::string& entry :
           {key + value, value + key, key, value, std::string(), key + key, key + value + value,
            key + value + key, record(1, "other") + key + value, key + unknown + value,
            unknown + key + value, key + value + unknown, key + value + other_type,
            other_type + value, long_length + value, key + long_length + value,
            record(17, name) + key + value}) {
        for (size_t size = 0; size <= entry.size(); ++size) {
          SCOPED_TRACE(testing::PrintToString(entry.substr(0, size)));
          ExpectReadAsProtobufDoes(WithEntries({entry.substr(0, size)}));
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_F(CheckCodecTest, NamesThatAreAlikeAreToldApart) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    std::vector<std::string> entries;
    for (unsigned i = Below(40); i > 0; --i) {
      std::string name, entry;
      for (unsigned j = Below(6); j > 0; --j) name += "aAb-"[Below(4)];
      AppendBytes(1, name, &entry);
      AppendBytes(2, std::to_string(i), &entry);
      entries.push_back(std::move(entry));
    }
    ExpectReadAsProtobufDoes(WithEntries(entries));
  }
}

TEST_F(CheckCodecTest, ARequestIsReadAndWrittenAsProtobufDoes) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const CheckRequest request = RandomRequest();
    const std::string bytes = request.SerializeAsString();
    const auto view = ParseCheckRequest(bytes, 100);
    ASSERT_TRUE(view.ok()) << request.DebugString();
    std::multimap<std::string, std::string> headers;
    for (const auto& header : view->headers) headers.emplace(header.name, header.value);
    EXPECT_EQ(headers, HeadersOf(request));
    CheckRequest again;
    ASSERT_TRUE(again.ParseFromString(WriteCheckRequest(*view, view->headers)));
    EXPECT_TRUE(MessageDifferencer::Equals(request, again))
        << request.DebugString() << again.DebugString();
  }
}

TEST_F(CheckCodecTest, WhateverTheBytesAreReadingEnds) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes = RandomRequest().SerializeAsString();
    for (unsigned i = Below(4); i > 0; --i) {
      bytes[Below(static_cast<unsigned>(bytes.size()))] = static_cast<char>(Below(256));
    }
    bytes.resize(bytes.size() - Below(3));
    const auto view = ParseCheckRequest(bytes, 100);
    if (!view.ok()) continue;
    CheckEffect effect(&*view);
    const std::string written = WriteCheckRequest(*view, effect.headers());
    EXPECT_TRUE(ParseCheckRequest(written, 1000).ok());
    WriteCheckAttributes(*view);
    WriteHttpHeaders(effect.headers(), true);
  }
}

TEST_F(CheckCodecTest, AMapsLastEntryCounts) {
  CheckRequest first;
  (*first.mutable_attributes()->mutable_request()->mutable_http()->mutable_headers())["x"] = "1";
  std::string http = first.attributes().request().http().SerializeAsString();
  CheckRequest second;
  (*second.mutable_attributes()->mutable_request()->mutable_http()->mutable_headers())["x"] = "2";
  http += second.attributes().request().http().SerializeAsString();
  CheckRequest request;
  ASSERT_TRUE(
      request.mutable_attributes()->mutable_request()->mutable_http()->ParseFromString(http));
  std::string inner, context, bytes;
  AppendBytes(2, http, &inner);
  AppendBytes(4, inner, &context);
  AppendBytes(1, context, &bytes);
  const auto view = ParseCheckRequest(bytes, 10);
  ASSERT_TRUE(view.ok());
  ASSERT_EQ(view->headers.size(), 1u);
  EXPECT_EQ(view->headers[0].value, "2");
}

TEST_F(CheckCodecTest, WhatAClientSendsOnceIsTakenOnce) {
  const std::string bytes = Request().SerializeAsString();
  EXPECT_EQ(ParseCheckRequest(bytes + bytes, 100).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// --- The model ----------------------------------------------------------------------

using Model = std::map<std::string, std::string>;  // of a name, its one value

std::string Joined(const std::string& name, const std::string& a, const std::string& b) {
  return a + (name == "cookie" ? "; " : ",") + b;
}

// What Envoy does with an ok_response, as seen: it obeys `append` alone.
void EnvoyApplies(const OkHttpResponse& ok, Model* headers) {
  for (const bool appends : {false, true}) {
    for (const auto& option : ok.headers()) {
      const std::string name = ToLowerAscii(option.header().key());
      if (option.append().value() != appends) continue;
      if (!appends) {
        (*headers)[name] = option.header().value();
      } else if (headers->count(name) == 1) {
        (*headers)[name] = Joined(name, (*headers)[name], option.header().value());
      }  // else it is lost
    }
  }
  for (const std::string& name : ok.headers_to_remove()) headers->erase(ToLowerAscii(name));
}

// What a plugin means by it.
void PluginMeans(const OkHttpResponse& ok, Model* headers) {
  for (const bool appends : {false, true}) {
    for (const auto& option : ok.headers()) {
      const std::string name = ToLowerAscii(option.header().key());
      const std::string& value = option.header().raw_value();
      const bool append = option.append().value();
      if (append != appends) continue;
      const bool exists = headers->count(name) == 1;
      if (append && exists) {
        (*headers)[name] = Joined(name, (*headers)[name], value);
      } else if (append || option.append_action() == 2 ||
                 (option.append_action() == 1 && !exists) ||
                 (option.append_action() == 3 && exists)) {
        (*headers)[name] = value;
      }
    }
  }
  for (const std::string& name : ok.headers_to_remove()) headers->erase(ToLowerAscii(name));
}

TEST_F(CheckCodecTest, OneResponseHasTheEffectOfSeveral) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    const CheckRequest request = RandomRequest();
    const std::string bytes = request.SerializeAsString();
    const auto view = ParseCheckRequest(bytes, 100);
    ASSERT_TRUE(view.ok());
    Model meant;
    for (const auto& [name, value] : HeadersOf(request)) meant[name] = value;
    Model done = meant;
    CheckEffect effect(&*view);
    std::string trace = request.DebugString();
    for (unsigned i = 1 + Below(3); i > 0; --i) {
      OkHttpResponse ok;
      for (unsigned n = Below(5); n > 0; --n) {
        AddOption(ok.mutable_headers(), Name(), Text("v"), static_cast<int>(Below(4)));
      }
      for (unsigned n = Below(3); n > 0; --n) ok.add_headers_to_remove(Name());
      trace += ok.DebugString() + "--\n";
      PluginMeans(ok, &meant);
      const std::string payload = ok.SerializeAsString();
      CheckResponseView ok_view;
      ASSERT_TRUE(ReadCheckResponse(CALLOUT_CHECK_OK, payload, &ok_view));
      ASSERT_FALSE(effect.Allow(ok_view).has_value());
    }
    CheckReply response;
    ASSERT_TRUE(response.ParseFromString(effect.WriteAllowed()));
    EnvoyApplies(response.ok_response(), &done);
    EXPECT_EQ(done, meant) << trace << response.DebugString();
    Model shown;
    for (const CheckHeader& header : effect.headers())
      shown[ToLowerAscii(header.name)] = header.value;
    EXPECT_EQ(shown, meant) << trace;
  }
}

// A plugin that means harm: bytes in the right places, and some of them turned.
TEST_F(CheckCodecTest, WhateverAPluginSaysWhatGoesOutIsWhatEnvoyMayBeSent) {
  SCOPED_TRACE("seed " + std::to_string(seed_));
  static constexpr const char* kNames[] = {"x-a",   "content-length", ":path", ":status", "host",
                                           "x\r\n", "Set-Cookie",     "",      ":x"};
  static const std::string kValues[] = {
      "v", "a\r\nset-cookie: evil=1", std::string("\0", 1), "/ x", "\xe9", ""};
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    CheckReply said;
    const auto fill = [&](auto* options) {
      for (unsigned i = Below(4); i > 0; --i) {
        AddOption(options, kNames[Below(2) == 0 ? 0 : Below(9)], "v", static_cast<int>(Below(4)));
        if (Below(3) == 0) {
          options->Mutable(options->size() - 1)->mutable_header()->set_raw_value(kValues[Below(6)]);
        }
      }
    };
    if (Below(2) == 0) {
      auto* ok = said.mutable_ok_response();
      fill(ok->mutable_headers());
      fill(ok->mutable_response_headers_to_add());
      for (unsigned i = Below(2); i > 0; --i) ok->add_headers_to_remove(kNames[Below(9)]);
      for (unsigned i = Below(2); i > 0; --i) {
        ok->add_query_parameters_to_set()->set_key("a b&\r\n");
      }
    } else {
      auto* denied = Below(3) == 0 ? said.mutable_error_response() : said.mutable_denied_response();
      fill(denied->mutable_headers());
      if (Below(2) == 0) {
        denied->mutable_status()->set_code(static_cast<envoy::type::v3::StatusCode>(Below(700)));
      }
    }
    said.mutable_status()->set_code(static_cast<int>(Below(3)));
    std::string bytes = said.SerializeAsString();
    for (unsigned i = Below(3); i > 0 && !bytes.empty(); --i) {
      bytes[Below(static_cast<unsigned>(bytes.size()))] = static_cast<char>(Below(256));
    }
    EXPECT_EQ(RunCheck(RandomRequest().SerializeAsString(), bytes), "") << said.DebugString();
  }
}

TEST_F(CheckCodecTest, PercentEncodingLeavesOnlyWhatIsUnreserved) {
  std::string all;
  for (int c = 0; c < 256; ++c) all.push_back(static_cast<char>(c));
  const std::string encoded = PercentEncode(all);
  EXPECT_EQ(encoded.size(), 66u + 190u * 3);
  for (const char c : encoded) EXPECT_TRUE(c > ' ' && c < '\x7f');
  EXPECT_EQ(PercentEncode("aZ09-._~ %&=+#/?"), "aZ09-._~%20%25%26%3D%2B%23%2F%3F");
}

}  // namespace
}  // namespace callout::host
