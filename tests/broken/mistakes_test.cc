// SPDX-License-Identifier: Apache-2.0

// docs/mistakes.md says what the host says: each row with a name is tried on the plugin of
// that name in this folder.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "host/plugin/loader.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Row {
  std::string name;
  std::string says;
};

std::vector<Row> ReadPage() {
  std::ifstream page(CALLOUT_MISTAKES_PAGE);
  EXPECT_TRUE(page.good()) << CALLOUT_MISTAKES_PAGE;
  const std::regex row(R"(^\| <!-- (\w+) -->[^|]*\| `([^`]*)` \|.*)");
  std::vector<Row> rows;
  for (std::string line; std::getline(page, line);) {
    std::smatch match;
    if (std::regex_match(line, match, row)) rows.push_back({match[1], match[2]});
  }
  return rows;
}

class MistakesTest : public StreamTest {
 protected:
  // All that an author sees of the plugin's loading, and of one request through it.
  std::string Try(const std::string& name) {
    const std::string path =
        (std::filesystem::read_symlink("/proc/self/exe").parent_path() / (name + ".so")).string();
    testing::internal::CaptureStderr();
    std::string seen = Run(name, path);
    if (stream_ != nullptr) stream_->OnHalfClose();
    stream_.reset();
    // Of a thread that goes on after the stream, and after the instance.
    CallIfThere(path, "work_after_close");
    environment_.reset();
    chains_.reset();
    CallIfThere(path, "late_work");
    return seen + testing::internal::GetCapturedStderr();
  }

  static void CallIfThere(const std::string& path, const char* function) {
    void* const file = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (file == nullptr) return;
    const auto call = reinterpret_cast<void (*)()>(dlsym(file, function));
    if (call != nullptr) call();
  }

  std::string Run(const std::string& name, const std::string& path) {
    const auto plugin = LoadPlugin(path);
    if (!plugin.ok()) return std::string(plugin.status().message());
    std::string seen;
    for (const std::string& warning : (*plugin)->warnings()) seen += warning + "\n";
    InstanceContext context;
    context.metrics = &metrics_;
    context.strict = true;
    auto instance = Instance::Create(*plugin, name, "", {}, context);
    if (!instance.ok()) return seen + std::string(instance.status().message());
    chains_ = std::make_unique<ChainSource>(
        std::make_shared<Chain>(std::vector<std::shared_ptr<Instance>>{*std::move(instance)}));
    environment_ = *StreamEnvironment::Create(limits_, chains_.get(), &metrics_);
    stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
    bytes_ = Headers(CALLOUT_REQUEST_HEADERS).SerializeAsString();
    stream_->OnMessage(bytes_);
    if (stream_->deadline_ns() != 0) stream_->OnDeadline(stream_->deadline_ns());
    for (const std::string& response : stream_->TakeOutput()) told_ += response;
    if (stream_->end().has_value()) seen += std::string(stream_->end()->message()) + "\n";
    return seen;
  }

  std::string bytes_;
  std::string told_;  // what Envoy got
};

TEST_F(MistakesTest, EachEndsInTheMessageThatThePageHas) {
  const std::vector<Row> rows = ReadPage();
  EXPECT_GE(rows.size(), 32u);
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    // The call of this one is never finished, so its stream is never closed: on its own.
    if (row.name == "finish_never") continue;
    told_.clear();
    EXPECT_THAT(Try(row.name), HasSubstr(row.says));
    EXPECT_THAT(told_, Not(HasSubstr("s3cret")));
  }
}

TEST_F(MistakesTest, ACallThatIsNeverFinishedEndsInTheMessageThatThePageHas) {
  for (const Row& row : ReadPage()) {
    if (row.name != "finish_never") continue;
    const std::string path =
        (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "finish_never.so")
            .string();
    EXPECT_THAT(Run(row.name, path), HasSubstr(row.says));
    // The plugin keeps the call for ever, so its stream must stay, too.
    static auto* const kept = new std::vector<std::unique_ptr<Stream>>;
    kept->push_back(std::move(stream_));
    static_cast<void>(environment_.release());
    static_cast<void>(chains_.release());
  }
}

}  // namespace
}  // namespace callout::host
