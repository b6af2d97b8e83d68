// SPDX-License-Identifier: Apache-2.0

#include "host/diff/difference.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "host/base/plain_codec.h"
#include "tests/host/diff/exchange_messages.h"

namespace callout::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ExchangeOutcome With(const std::vector<ProcessingResponse>& responses,
                     const absl::Status& end = absl::OkStatus()) {
  OutcomeBuilder builder;
  AddRequest(&builder);
  for (const ProcessingResponse& response : responses) {
    builder.OnResponse(response.SerializeAsString());
  }
  builder.OnEnd(end);
  return builder.Finish();
}

std::string Describe(const Difference& difference) {
  return fmt::format("{} {}: {} -> {}", DifferenceKindName(difference.kind), difference.what,
                     difference.before, difference.after);
}

std::vector<std::string> Differences(const ExchangeOutcome& before, const ExchangeOutcome& after) {
  std::vector<std::string> all;
  for (const Difference& difference : Compare(before, after)) all.push_back(Describe(difference));
  return all;
}

TEST(Difference, ToSetAHeaderToTheValueThatItHasIsNone) {
  EXPECT_THAT(Differences(With({}), With({SetsRequestHeader("X-User", "ann")})), IsEmpty());
}

TEST(Difference, NamesTheHeaderAndItsValues) {
  EXPECT_THAT(Differences(With({}), With({SetsRequestHeader("x-user", "bob")})),
              ElementsAre("header request x-user: ann -> bob"));
  ProcessingResponse removes;
  removes.mutable_request_headers()
      ->mutable_response()
      ->mutable_header_mutation()
      ->add_remove_headers("x-user");
  EXPECT_THAT(Differences(With({}), With({removes})),
              ElementsAre("header request x-user: ann -> absent"));
}

TEST(Difference, ShowsNoSecrets) {
  ProcessingResponse body;
  body.mutable_request_body()->mutable_response()->mutable_body_mutation()->set_body("secret-3");
  ProcessingResponse metadata;
  metadata.mutable_request_headers();
  (*metadata.mutable_dynamic_metadata()->mutable_fields())["ns"].set_string_value("secret-4");
  const auto all =
      Differences(With({}), With({SetsRequestHeader("authorization", "secret-5"),
                                  SetsRequestHeader(":path", "/b?q=secret-6"), body, metadata}));
  EXPECT_THAT(all, ElementsAre("metadata ns: absent -> set",
                               "header request :path: /a?[redacted] -> /b?[redacted]",
                               "header request authorization: [redacted] -> [redacted]",
                               "body request: 6 bytes -> 8 bytes"));
}

TEST(Difference, ShowsNoSecretThatAPluginHasCopied) {
  EXPECT_THAT(Differences(With({}), With({SetsRequestHeader("x-copy", "<secret-2>")})),
              ElementsAre("header request x-copy: absent -> <[redacted]>"));
  // A part of it that the cut leaves is none.
  const std::string long_one(kDifferenceTextBytesMax - 4, 'x');
  for (const std::string& text :
       Differences(With({}), With({SetsRequestHeader("x-copy", long_one + "secret-2")}))) {
    EXPECT_THAT(text, Not(HasSubstr("sec")));
  }
  // It is not in the outcome any more.
  const ExchangeOutcome before = With({SetsRequestHeader("authorization", "none")});
  const ExchangeOutcome after =
      With({SetsRequestHeader("authorization", "none"), SetsRequestHeader("x-copy", "secret-2")});
  const auto shown = [&](const LearnMessages& learn) {
    return Describe(Compare(before, after, learn).at(0));
  };
  EXPECT_EQ(shown(nullptr), "header request x-copy: absent -> secret-2");
  EXPECT_EQ(shown([](MessageRedactor* secrets) {
              secrets->LearnHeaders(HeadersMessage({{"authorization", "secret-2"}}));
            }),
            "header request x-copy: absent -> [redacted]");
  // A client may send more than are looked for.
  std::string cookie;
  for (size_t i = 0; i <= MessageRedactor::kSecretsMax; ++i) cookie += fmt::format("{:08} ", i);
  EXPECT_EQ(shown([&](MessageRedactor* secrets) {
              secrets->LearnHeaders(HeadersMessage({{"cookie", cookie}}));
            }),
            "header request x-copy: absent -> [redacted]");
}

TEST(Difference, OfAnExchangeThatIsAnsweredIsItsStatusAlone) {
  EXPECT_THAT(Differences(With({SetsRequestHeader("x-a", "1")}), With({Immediate(403)})),
              ElementsAre("status response: the upstream's -> 403"));
  EXPECT_THAT(Differences(With({Immediate(401)}), With({Immediate(403)})),
              ElementsAre("status response: 401 -> 403"));
  EXPECT_THAT(Differences(With({Immediate(403)}), With({Immediate(403)})), IsEmpty());
}

TEST(Difference, OfAnExchangeThatFailsIsTheErrorAlone) {
  EXPECT_THAT(
      Differences(With({SetsRequestHeader("x-a", "1")}), With({}, absl::InternalError("broken"))),
      ElementsAre("error rpc: none -> INTERNAL"));
}

TEST(Difference, CountsModesAndTrailers) {
  ProcessingResponse mode;
  mode.mutable_request_headers();
  mode.mutable_mode_override()->set_response_body_mode(
      envoy::extensions::filters::http::ext_proc::v3::ProcessingMode::BUFFERED);
  EXPECT_THAT(Differences(With({}), With({mode})),
              ElementsAre("mode mode_override: none -> asked for"));
  const auto trailers = [](bool change) {
    OutcomeBuilder builder;
    builder.OnMessage(CALLOUT_REQUEST_TRAILERS, HeadersMessage({{"x-sum", "1"}}));
    ProcessingResponse response;
    if (change) {
      AddHeader(response.mutable_request_trailers()->mutable_header_mutation(), "x-sum", "2");
      builder.OnResponse(response.SerializeAsString());
    }
    return builder.Finish();
  };
  EXPECT_THAT(Differences(trailers(false), trailers(true)),
              ElementsAre("trailers request x-sum: 1 -> 2"));
}

TEST(Difference, AStatusThatAPluginWritesIntoTheResponseIsAStatus) {
  const auto responded = [](const std::string& status) {
    OutcomeBuilder builder;
    builder.OnMessage(CALLOUT_RESPONSE_HEADERS, HeadersMessage({{":status", status}}));
    return builder.Finish();
  };
  EXPECT_THAT(Differences(responded("200"), responded("204")),
              ElementsAre("status response :status: 200 -> 204"));
}

TEST(Difference, TextsAreCutAndPrintable) {
  const std::string value = "\n" + std::string(2 * kDifferenceTextBytesMax, 'x');
  const auto all = Compare(With({}), With({SetsRequestHeader("x-user", value)}));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_LE(all[0].after.size(), kDifferenceTextBytesMax);
  EXPECT_THAT(all[0].after, Not(HasSubstr("\n")));
}

TEST(DifferenceSummary, CountsAnExchangeOnceForEachKind) {
  DifferenceSummary summary;
  const auto two_headers =
      Compare(With({}), With({SetsRequestHeader("x-a", "1"), SetsRequestHeader("x-b", "1")}));
  AddExchange(two_headers, {"4711"}, &summary);
  AddExchange({}, {"4712"}, &summary);
  EXPECT_EQ(summary.exchanges, 2u);
  EXPECT_EQ(summary.differing, 1u);
  EXPECT_EQ(summary.by_kind[static_cast<size_t>(DifferenceKind::kHeader)], 1u);
  EXPECT_EQ(summary.entries.size(), 2u);
}

TEST(DifferenceSummary, ShowsTheCommonestFirstWithTheFirstExample) {
  DifferenceSummary summary;
  AddExchange(Compare(With({}), With({Immediate(403)})), {"first", "GET /a"}, &summary);
  for (const char* value : {"bob", "eve"}) {
    AddExchange(Compare(With({}), With({SetsRequestHeader("x-user", value)})), {value}, &summary);
  }
  summary.after = {2, 3000};
  const nlohmann::json report = nlohmann::json::parse(ReportJson(summary).dump());
  ASSERT_EQ(report["commonest"].size(), 2u);
  const nlohmann::json& first = report["commonest"][0];
  EXPECT_EQ(first["kind"], "header");
  EXPECT_EQ(first["what"], "request x-user");
  EXPECT_EQ(first["exchanges"], 2);
  EXPECT_EQ(first["after"], "bob");
  EXPECT_EQ(first["request_id"], "bob");
  EXPECT_EQ(report["commonest"][1]["example"], "GET /a");
  EXPECT_EQ(report["by_kind"]["status"], 1);
  EXPECT_EQ(report["time_per_call_us"]["after"], 1.5);
  EXPECT_TRUE(report["time_per_call_us"]["before"].is_null());
  EXPECT_EQ(ReportText(summary),
            "3 of 3 exchanges differ\n"
            "  header: 2\n"
            "  status: 1\n"
            "2 x header request x-user: ann -> bob (x-request-id bob)\n"
            "1 x status response: the upstream's -> 403 (GET /a, x-request-id first)\n"
            "time per call: before not measured, after 1.5 us\n");
}

TEST(DifferenceSummary, DescribesARequestWithoutItsQuery) {
  EXPECT_EQ(DescribeRequest(HeadersMessage({{":method", "GET"}, {":path", "/a?q=secret"}})),
            "GET /a?[redacted]");
  EXPECT_EQ(DescribeRequest(HeadersMessage({{"x-user", "ann"}})), "");
  const std::string described = DescribeRequest(
      HeadersMessage({{":method", "GET"}, {":path", "/\n" + std::string(99, 'a')}}));
  EXPECT_THAT(described, Not(HasSubstr("\n")));
  EXPECT_LT(described.size(), 70u);
}

TEST(DifferenceSummary, HasSoManyEntriesAndCountsTheRest) {
  DifferenceSummary summary;
  for (size_t i = 0; i < kDifferenceEntriesMax + 3; ++i) {
    const std::string name = fmt::format("x-{}", i);
    AddExchange(Compare(With({}), With({SetsRequestHeader(name, "1")})), {""}, &summary);
  }
  EXPECT_EQ(summary.entries.size(), kDifferenceEntriesMax);
  EXPECT_EQ(summary.unlisted, 3u);
  EXPECT_EQ(ReportJson(summary)["commonest"].size(), kDifferencesShown);
}

TEST(DifferenceSummary, AddsUpOverProcesses) {
  DifferenceSummary one, other;
  AddExchange(Compare(With({}), With({Immediate(403)})), {"1"}, &one);
  AddExchange(Compare(With({}), With({Immediate(403)})), {"2"}, &other);
  AddExchange(Compare(With({}), With({SetsRequestHeader("x-a", "1")})), {"3"}, &other);
  const auto sent = Decode<DifferenceSummary>(Encode(other));
  ASSERT_TRUE(sent.has_value());
  one.Add(*sent);
  EXPECT_EQ(one.exchanges, 3u);
  EXPECT_EQ(one.by_kind[static_cast<size_t>(DifferenceKind::kStatus)], 2u);
  EXPECT_EQ(one.entries.at("status response").exchanges, 2u);
  EXPECT_EQ(one.entries.at("status response").request_id, "1");
}

}  // namespace
}  // namespace callout::host
