// SPDX-License-Identifier: Apache-2.0

#include "host/admin/front_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "absl/strings/str_join.h"
#include "host/admin/html.h"
#include "host/explain/exchange_rule.h"
#include "host/plugin/shown_redaction.h"

namespace callout::host {
namespace {

constexpr std::string_view kStyle = R"css(
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d0d7de;--box:#f6f8fa;
--bad:#b3261e;--warn:#8a5300;--good:#1a6e35;--mark:#0b61c4}
@media(prefers-color-scheme:dark){:root{--bg:#0f1418;--fg:#e6edf3;--dim:#9aa5b1;--line:#333c46;
--box:#182027;--bad:#ff8a80;--warn:#f0b860;--good:#6ed492;--mark:#6cb2ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:14px/1.45 system-ui,sans-serif}
header,main{max-width:76rem;margin:0 auto;padding:.6rem 1rem}
header{display:flex;flex-wrap:wrap;gap:.2rem 1rem;align-items:baseline;border-bottom:1px solid var(--line)}
h1{font-size:1.15rem;margin:0}
h2{font-size:1rem;margin:1.5rem 0 .4rem}
h3{font-size:.95rem;margin:0}
nav{display:flex;flex-wrap:wrap;gap:.2rem .8rem}
a{color:var(--mark)}
.dim{color:var(--dim)}.bad{color:var(--bad);font-weight:600}.warn{color:var(--warn);font-weight:600}
.good{color:var(--good);font-weight:600}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--dim);white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.t{overflow-wrap:anywhere;min-width:9rem}
code{font:12px/1.4 ui-monospace,monospace;white-space:nowrap}
td.t code{white-space:normal}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:.6rem;margin-top:.8rem}
.tile,.plugin{background:var(--box);border:1px solid var(--line);border-radius:6px;padding:.5rem .7rem}
.tile b{font-size:1.25rem;font-variant-numeric:tabular-nums}
.tile svg{display:block;width:100%;height:42px;margin-top:.3rem}
.plugin{margin:.6rem 0}
.plugin>div{display:flex;flex-wrap:wrap;gap:.2rem 1rem;align-items:baseline}
svg.spark{width:120px;height:22px;vertical-align:middle}
polyline{fill:none;stroke:var(--mark);stroke-width:1.5;vector-effect:non-scaling-stroke}
meter{width:9rem;height:.8rem}
form{display:inline-flex;gap:.3rem;margin:.2rem .4rem .2rem 0}
button,select,input{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--line);
border-radius:5px;padding:.15rem .5rem}
ul{margin:.3rem 0;padding-left:1.2rem}
@media(max-width:40rem){meter{width:4rem}header,main{padding:.5rem .6rem}}
summary{cursor:pointer}
)css";

// Fetches the page again and takes its main part, unless the reader is in the middle of something.
constexpr std::string_view kScript = R"js(
'use strict';
(() => {
  const note = document.getElementById('refresh');
  const box = document.createElement('input');
  const label = document.createElement('label');
  const said = document.createElement('span');
  box.type = 'checkbox';
  box.checked = true;
  label.append(box, ' refresh every 2 s');
  note.replaceChildren(label, ' ', said);
  const busy = () => {
    const main = document.querySelector('main');
    const at = document.activeElement;
    return document.hidden || String(getSelection()).trim() !== '' ||
        (at && main.contains(at) && at.matches('select,input,button'));
  };
  const refresh = async () => {
    if (!box.checked || busy()) return;
    try {
      const got = await fetch('/', {headers: {Accept: 'text/html'}, cache: 'no-store'});
      if (!got.ok) throw new Error('status ' + got.status);
      const page = new DOMParser().parseFromString(await got.text(), 'text/html');
      const open = [...document.querySelectorAll('main details')].filter(d => d.open).map(d => d.id);
      if (busy()) return;
      for (const part of ['#status', 'main']) {
        document.querySelector(part).replaceWith(document.adoptNode(page.querySelector(part)));
      }
      for (const id of open) {
        const details = document.getElementById(id);
        if (details) details.open = true;
      }
      said.textContent = '';
      said.className = '';
    } catch (error) {
      said.textContent = 'no response from the host since ' + (said.dataset.since ||= new Date().toLocaleTimeString());
      said.className = 'bad';
      return;
    }
    delete said.dataset.since;
  };
  setInterval(refresh, 2000);
})();
)js";

// --- Numbers as people read them -------------------------------------------------

std::string Count(double number) {
  if (number < 10'000) return fmt::format("{:.0f}", number);
  if (number < 1e6) return fmt::format("{:.1f} k", number / 1e3);
  if (number < 1e9) return fmt::format("{:.1f} M", number / 1e6);
  return fmt::format("{:.1f} G", number / 1e9);
}

std::string PerSecond(double rate) {
  if (rate == 0) return "0";
  return rate < 10 ? fmt::format("{:.2f}", rate) : Count(rate);
}

std::string PerSecond(const std::optional<double>& rate) {
  return rate.has_value() ? PerSecond(*rate) : "–";
}

std::string Seconds(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.0f} µs", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

std::string Seconds(const std::optional<double>& seconds) {
  return seconds.has_value() ? Seconds(*seconds) : "–";
}

std::string Span(int64_t seconds) {
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  if (seconds < 2 * 86400) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} days", seconds / 86400);
}

std::string Age(uint64_t then_ns, uint64_t now_ns) {
  const uint64_t age_ns = now_ns > then_ns ? now_ns - then_ns : 0;
  if (age_ns < 1'000'000'000) return fmt::format("{} ms", age_ns / 1'000'000);
  return Span(static_cast<int64_t>(age_ns / 1'000'000'000));
}

// --- Parts of HTML ---------------------------------------------------------------

std::string Colored(std::string_view color, std::string_view text) {
  return fmt::format("<span class=\"{}\">{}</span>", color, EscapeHtml(text));
}

std::string Cell(std::string_view html, std::string_view kind = "") {
  return kind.empty() ? fmt::format("<td>{}</td>", html)
                      : fmt::format("<td class=\"{}\">{}</td>", kind, html);
}

// "n" before a heading: a column of numbers.
std::string BeginTable(const std::vector<std::string_view>& headings) {
  std::string html = "<div class=\"wide\"><table><tr>";
  for (std::string_view heading : headings) {
    const bool number = heading.starts_with('#');
    if (number) heading.remove_prefix(1);
    html += fmt::format("<th{}>{}</th>", number ? " class=\"n\"" : "", heading);
  }
  return html + "</tr>";
}

constexpr std::string_view kEndTable = "</table></div>";

// Points from left to right, 0 at the bottom.
std::string Plot(const std::vector<double>& points, std::string_view css, std::string_view label) {
  constexpr double kWidth = 300;
  constexpr double kHeight = 40;
  if (points.size() < 2) return "";
  const double top = std::max(*std::max_element(points.begin(), points.end()), 1e-9);
  std::string line;
  for (size_t i = 0; i < points.size(); ++i) {
    line += fmt::format("{:.1f},{:.1f} ",
                        kWidth * static_cast<double>(i) / static_cast<double>(points.size() - 1),
                        kHeight - (kHeight - 2) * points[i] / top);
  }
  return fmt::format(
      "<svg class=\"{}\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" role=\"img\" "
      "aria-label=\"{}\"><polyline points=\"{}\"/></svg>",
      css, kWidth, kHeight, EscapeHtml(label), line);
}

std::string Button(const FrontPageData& data, std::string_view action, std::string_view text,
                   std::string_view field = "", std::string_view value = "") {
  if (!data.writes) return "";
  std::string hidden;
  if (!field.empty()) {
    hidden =
        fmt::format("<input type=\"hidden\" name=\"{}\" value=\"{}\">", field, EscapeHtml(value));
  }
  return fmt::format("<form method=\"post\" action=\"{}\">{}<button>{}</button></form>", action,
                     hidden, EscapeHtml(text));
}

std::string LevelForm(const FrontPageData& data, const std::string& plugin);

// --- Sections --------------------------------------------------------------------

std::string Tile(std::string_view title, std::string_view value, const std::string& plot) {
  return fmt::format("<div class=\"tile\"><div class=\"dim\">{}</div><b>{}</b>{}</div>", title,
                     value, plot);
}

std::string Tiles(const FrontPageData& data) {
  const MetricHistory& history = *data.history;
  constexpr std::string_view kStreams = "callout_streams_started_total";
  constexpr std::string_view kFaults = "callout_plugin_faults_total";
  constexpr std::string_view kLive = "callout_live_streams";
  std::string html = "<div class=\"tiles\">";
  html += Tile("streams/s", PerSecond(history.Rate(kStreams)),
               Plot(history.RatePoints(kStreams), "", "streams per second"));
  html += Tile("p99, message in to response out", Seconds(history.RecentMessages().Quantile(0.99)),
               Plot(history.MessageP99Points(), "", "99th percentile of the time of a message"));
  html += Tile("faults/s", PerSecond(history.Rate(kFaults)),
               Plot(history.RatePoints(kFaults), "", "faults per second"));
  html += Tile("live streams", Count(history.Value(kLive)),
               Plot(history.ValuePoints(kLive), "", "live streams"));
  html += "</div>";
  const std::optional<double> seconds = history.RecentSeconds();
  html += seconds.has_value()
              ? fmt::format("<p class=\"dim\">Rates and quantiles are of the last {:.0f} s.</p>",
                            *seconds)
              : std::string(
                    "<p class=\"dim\">Quantiles are of the time since the start; rates "
                    "come with the next refresh.</p>");
  return html;
}

std::string Problems(const FrontPageData& data) {
  std::vector<std::string> problems = data.plugins.problems;
  problems.insert(problems.end(), data.usage.problems.begin(), data.usage.problems.end());
  if (problems.empty()) return "";
  std::string html = "<h2 class=\"bad\">Problems</h2><ul>";
  for (const std::string& problem : problems) {
    html += fmt::format("<li>{}</li>", EscapeHtml(problem));
  }
  return html + "</ul>";
}

std::string StateOf(const FrontPageData& data, const Reloader::PluginStatus& plugin) {
  const auto quarantined = data.usage.quarantined.find(plugin.name);
  if (quarantined != data.usage.quarantined.end()) return Colored("bad", "quarantined");
  if (plugin.stand_in) return Colored("bad", "a stand-in answers");
  switch (plugin.state) {
    case Reloader::State::kServing:
      if (plugin.shadow) return Colored("dim", "in shadow");
      if (plugin.has_canary) return Colored("warn", "serving, with a canary beside it");
      return plugin.last_error.empty() ? Colored("good", "serving")
                                       : Colored("warn", "serving an older version");
    case Reloader::State::kRefused:
      return Colored("bad", "refused");
    default:
      return Colored("dim", StateName(plugin.state));
  }
}

// The calls of both versions, while one of them is a canary.
std::string CanaryTable(const FrontPageData& data, const Reloader::PluginStatus& plugin) {
  if (!plugin.has_canary) return "";
  std::string html = BeginTable({"generation", "serves", "#calls", "#faults", "#mean", "#p99"});
  for (const Reloader::GenerationStatus& generation : plugin.generations) {
    const auto counts = data.usage.calls.find(generation.id);
    if (counts == data.usage.calls.end()) continue;
    const double percent = generation.canary_percent;
    html += "<tr>" + Cell(fmt::format("{}", generation.number)) +
            Cell(percent > 0 ? fmt::format("{} % of new streams", percent) : "the rest") +
            Cell(Count(static_cast<double>(counts->second.calls)), "n") +
            Cell(Count(static_cast<double>(counts->second.faults)), "n") +
            Cell(Seconds(counts->second.MeanMs() / 1e3), "n") +
            Cell(Seconds(counts->second.QuantileMs(0.99) / 1e3), "n") + "</tr>";
  }
  return html += kEndTable;
}

// "generation 2 (1.4.0)": of the one in service.
std::string ServingGeneration(const Reloader::PluginStatus& plugin) {
  for (const Reloader::GenerationStatus& generation : plugin.generations) {
    if (!generation.in_service) continue;
    return fmt::format("<span class=\"dim\">generation {} ({})</span>", generation.number,
                       EscapeHtml(generation.facts.version));
  }
  return "";
}

std::string Generations(const FrontPageData& data, const Reloader::PluginStatus& plugin) {
  if (plugin.generations.empty()) return "";
  std::string html = BeginTable({"generation", "version", "state", "#streams", "SHA-256", "file"});
  for (const Reloader::GenerationStatus& generation : plugin.generations) {
    const auto streams = data.usage.streams.find(generation.id);
    const bool known = !data.usage.complete || streams != data.usage.streams.end();
    const bool canary = generation.canary_percent > 0;
    if (!generation.in_service && !canary && !known) continue;
    html +=
        "<tr>" + Cell(fmt::format("{}", generation.number)) +
        Cell(EscapeHtml(generation.facts.version)) +
        Cell(canary                  ? "canary"
             : generation.in_service ? "serving"
                                     : "draining") +
        Cell(streams == data.usage.streams.end() ? "–" : fmt::format("{}", streams->second), "n") +
        Cell(fmt::format("<code>{}</code>", EscapeHtml(generation.sha256.substr(0, 12)))) +
        Cell(fmt::format("<code>{}</code>", EscapeHtml(plugin.path)), "t") + "</tr>";
  }
  return html += kEndTable;
}

std::string PhaseTable(const FrontPageData& data, const std::string& plugin,
                       const MetricHistory::Calls& recent) {
  const std::optional<double> seconds = data.history->RecentSeconds();
  std::string html = BeginTable({"phase", "#calls", "#calls/s", "#p50", "#p99", "#mean"});
  bool any = false;
  for (const auto& [key, total] : data.history->last()->calls) {
    if (key.first != plugin) continue;
    any = true;
    const auto found = recent.find(key);
    const Distribution calls = found == recent.end() ? Distribution{} : found->second;
    std::optional<double> rate, mean;
    if (seconds.has_value()) rate = static_cast<double>(calls.count) / *seconds;
    if (calls.count > 0) mean = calls.sum / static_cast<double>(calls.count);
    html += "<tr>" + Cell(EscapeHtml(key.second)) +
            Cell(Count(static_cast<double>(total.count)), "n") + Cell(PerSecond(rate), "n") +
            Cell(Seconds(calls.Quantile(0.5)), "n") + Cell(Seconds(calls.Quantile(0.99)), "n") +
            Cell(Seconds(mean), "n") + "</tr>";
  }
  return any ? html += kEndTable : "<p class=\"dim\">not called yet</p>";
}

std::string CountsLine(const FrontPageData& data, std::string_view title, const std::string& metric,
                       const std::string& plugin, std::string_view css) {
  std::vector<std::string> texts;
  for (const auto& [label, count] : data.history->CountsOf(metric, plugin)) {
    texts.push_back(fmt::format("{} {}", EscapeHtml(label), Count(count)));
  }
  if (texts.empty()) return "";
  return fmt::format("<p><span class=\"{}\">{}</span> {}</p>", css, title,
                     absl::StrJoin(texts, ", "));
}

std::string Plugin(const FrontPageData& data, const Reloader::PluginStatus& plugin,
                   const MetricHistory::Calls& recent) {
  Distribution all;
  for (const auto& [key, calls] : recent) {
    if (key.first == plugin.name) all.Add(calls);
  }
  std::optional<double> rate;
  if (const std::optional<double> seconds = data.history->RecentSeconds(); seconds.has_value()) {
    rate = static_cast<double>(all.count) / *seconds;
  }
  std::string html = fmt::format(
      "<section class=\"plugin\"><div><h3>{}</h3>{}{}<span>{} calls/s</span><span>p50 {}</span>"
      "<span>p99 {}</span>{}</div>",
      EscapeHtml(plugin.name), StateOf(data, plugin), ServingGeneration(plugin), PerSecond(rate),
      Seconds(all.Quantile(0.5)), Seconds(all.Quantile(0.99)),
      Plot(data.history->P99Points(plugin.name), "spark", "99th percentile of its calls"));
  const auto text = [&](std::string_view title, const std::map<std::string, std::string>& by_name) {
    const auto found = by_name.find(plugin.name);
    if (found == by_name.end()) return;
    html += fmt::format("<p>{} {}</p>", Colored("bad", title), EscapeHtml(found->second));
  };
  text("In quarantine:", data.usage.quarantined);
  text("Last crash:", data.usage.last_crash);
  if (!plugin.last_error.empty()) {
    html += fmt::format("<p>{} {}</p>", Colored("bad", "Its current file:"),
                        EscapeHtml(plugin.last_error));
  }
  html += CountsLine(data, "Calls by outcome:", "callout_calls_total", plugin.name, "dim");
  html += CountsLine(data, "Refusals by status:", "callout_denials_total", plugin.name, "dim");
  html += CountsLine(data, "Faults:", "callout_plugin_faults_total", plugin.name, "warn");
  if (data.usage.quarantined.count(plugin.name) > 0) {
    html += Button(data, "/actions/release", "Release from quarantine", "plugin", plugin.name);
  } else if (plugin.withdrawn) {
    html +=
        Button(data, "/actions/release", "Load the withdrawn version again", "plugin", plugin.name);
  }
  html += CanaryTable(data, plugin);
  if (plugin.has_canary) {
    html += Button(data, "/actions/promote", "Promote the canary", "plugin", plugin.name);
  }
  if (plugin.may_go_back) {
    html += Button(data, "/actions/go_back",
                   plugin.has_canary ? "Roll back the canary" : "Go back one generation", "plugin",
                   plugin.name);
  }
  html += fmt::format("<details id=\"plugin-{}\"><summary>phases and versions</summary>",
                      EscapeHtml(plugin.name));
  html += LevelForm(data, plugin.name);
  return html + PhaseTable(data, plugin.name, recent) + Generations(data, plugin) +
         "</details></section>";
}

std::string Plugins(const FrontPageData& data) {
  std::string html =
      fmt::format("<h2 id=\"plugins\">Plugins ({})</h2>", data.plugins.plugins.size());
  if (data.plugins.plugins.empty()) {
    return html + "<p>No plugins: all messages pass unchanged.</p>";
  }
  const MetricHistory::Calls recent = data.history->Recent();
  for (const Reloader::PluginStatus& plugin : data.plugins.plugins) {
    html += Plugin(data, plugin, recent);
  }
  return html;
}

std::string Shadow(const ShadowReport& report) {
  const DifferenceSummary& summary = report.summary;
  const auto time = [](const DifferenceSummary::Times& times) {
    return times.calls == 0
               ? std::string("–")
               : Seconds(static_cast<double>(times.ns) / static_cast<double>(times.calls) / 1e9);
  };
  std::string html = fmt::format(
      "<h3>{}</h3><p>{}: {} of {} exchanges would have come to something else. Time per call: {}; "
      "of what it is compared with: {}.</p>",
      EscapeHtml(report.plugin),
      report.instead_of.empty() ? "in addition"
                                : fmt::format("instead of {}", EscapeHtml(report.instead_of)),
      Count(static_cast<double>(summary.differing)), Count(static_cast<double>(summary.exchanges)),
      time(summary.after), time(summary.before));
  if (summary.entries.empty()) return html;
  html += "<p>By kind: ";
  for (size_t kind = 0; kind < kDifferenceKinds; ++kind) {
    html += fmt::format("{}{} {}", kind == 0 ? "" : ", ",
                        DifferenceKindName(static_cast<DifferenceKind>(kind)),
                        Count(static_cast<double>(summary.by_kind[kind])));
  }
  html += ".</p>" + BeginTable({"#exchanges", "difference", "without it", "with it", "example"});
  for (const auto& [what, entry] : Commonest(summary)) {
    const std::string example = ExampleText(entry);
    html += "<tr>" + Cell(Count(static_cast<double>(entry.exchanges)), "n") +
            Cell(EscapeHtml(what)) + Cell(EscapeHtml(entry.before), "t") +
            Cell(EscapeHtml(entry.after), "t") +
            Cell(example.empty() ? "–" : EscapeHtml(example), "t") + "</tr>";
  }
  html += kEndTable;
  if (summary.unlisted > 0) {
    html += fmt::format("<p>{} more differences are not listed.</p>",
                        Count(static_cast<double>(summary.unlisted)));
  }
  return html;
}

std::string Shadows(const FrontPageData& data) {
  if (data.shadows.empty()) return "";
  std::string html = "<h2 id=\"shadows\">Shadows</h2>";
  for (const ShadowReport& report : data.shadows) html += Shadow(report);
  return html + "<p><a href=\"/shadow\">All of it</a> (JSON)</p>";
}

std::string Streams(const FrontPageData& data) {
  const size_t count = data.live.rpcs.size() + data.live.left_out;
  std::string html = fmt::format("<h2 id=\"streams\">Live streams ({})</h2>", count);
  if (data.live.silent_threads > 0) {
    html += fmt::format("<p>{} of {} threads, whose streams are not in this list.</p>",
                        Colored("warn", "A hook occupies"), data.live.silent_threads);
  }
  if (data.live.rpcs.empty()) return html + "<p class=\"dim\">none</p>";
  html += BeginTable({"#age", "kind", "phase", "waits for", "peer", "#stream"});
  for (const LiveRpc& rpc : data.live.rpcs) {
    const std::string waits =
        rpc.plugin.empty() ? rpc.state : fmt::format("{}: {}", rpc.plugin, rpc.state);
    html += "<tr>" + Cell(Age(rpc.begin_ns, data.now_ns), "n") + Cell(EscapeHtml(rpc.kind)) +
            Cell(EscapeHtml(rpc.phase)) + Cell(EscapeHtml(waits), "t") +
            Cell(EscapeHtml(rpc.peer)) + Cell(fmt::format("{}", rpc.stream_id), "n") + "</tr>";
  }
  html += kEndTable;
  if (data.live.left_out > 0) {
    html += fmt::format("<p class=\"dim\">and {} younger ones</p>", data.live.left_out);
  }
  return html;
}

std::string Faults(const FrontPageData& data) {
  std::string html = "<h2 id=\"faults\">Recent faults</h2>";
  if (data.faults.empty()) return html + "<p class=\"dim\">none since the start</p>";
  html += BeginTable({"#last", "plugin", "phase", "kind", "#count", "what was found", "request"});
  for (const RecentFault& fault : data.faults) {
    std::string request = fmt::format("stream {}", fault.stream_id);
    if (!fault.request_id.empty()) request += ", x-request-id " + fault.request_id;
    if (!fault.trace_id.empty()) request += ", trace " + fault.trace_id;
    html += "<tr>" + Cell(Age(fault.time_ns, data.now_ns), "n") + Cell(EscapeHtml(fault.plugin)) +
            Cell(EscapeHtml(fault.phase)) + Cell(EscapeHtml(fault.kind)) +
            Cell(Count(static_cast<double>(fault.count)), "n") + Cell(EscapeHtml(fault.what), "t") +
            Cell(fmt::format("<code>{}</code>", EscapeHtml(request)), "t") + "</tr>";
  }
  return html += kEndTable;
}

std::string Limits(const FrontPageData& data) {
  std::string html =
      "<h2 id=\"limits\">Limits</h2>" + BeginTable({"what", "#in use", "#limit", "", "option"});
  for (const PageLimit& limit : data.limits) {
    const bool has_limit = limit.max > 0;
    // Green to 70 %, yellow to 90 %.
    const std::string meter =
        has_limit ? fmt::format(
                        "<meter min=\"0\" max=\"1\" low=\"0.7\" high=\"0.9\" optimum=\"0\" "
                        "value=\"{:.4f}\">{:.0f} %</meter>",
                        std::min(limit.used / limit.max, 1.0), 100 * limit.used / limit.max)
                  : "";
    html += "<tr>" + Cell(EscapeHtml(limit.what)) + Cell(Count(limit.used), "n") +
            Cell(has_limit ? Count(limit.max) : "none", "n") + Cell(meter) +
            Cell(fmt::format("<code>{}</code>", EscapeHtml(limit.option))) + "</tr>";
  }
  return html += kEndTable;
}

std::string ExpiryOf(const PageCertificate& certificate) {
  constexpr int64_t kSoonSeconds = 14 * 86400;
  if (certificate.seconds_left < 0) return Colored("bad", "expired");
  const std::string left = fmt::format("in {}", Span(certificate.seconds_left));
  return certificate.seconds_left < kSoonSeconds ? Colored("warn", left) : EscapeHtml(left);
}

std::string Certificates(const FrontPageData& data) {
  std::string html = "<h2 id=\"certificates\">Certificates</h2>";
  if (data.certificates.empty()) return html + "<p class=\"dim\">no listener uses TLS</p>";
  html += BeginTable({"what", "subject", "issuer", "expires", "not after", "from"});
  for (const PageCertificate& certificate : data.certificates) {
    html += "<tr>" + Cell(EscapeHtml(certificate.what)) +
            Cell(EscapeHtml(certificate.subject), "t") + Cell(EscapeHtml(certificate.issuer), "t") +
            Cell(ExpiryOf(certificate)) + Cell(EscapeHtml(certificate.not_after)) +
            Cell(fmt::format("<code>{}</code>", EscapeHtml(certificate.source)), "t") + "</tr>";
  }
  html += kEndTable;
  for (const std::string& warning : data.certificate_warnings) {
    html += fmt::format("<p class=\"warn\">{}</p>", EscapeHtml(warning));
  }
  return html;
}

std::string SettingRows(const FrontPageData& data, bool defaults) {
  std::string html = BeginTable({"option", "value", "from"});
  for (const OptionSet::Setting& setting : data.settings) {
    if ((setting.source == "default") != defaults) continue;
    html += "<tr>" +
            Cell(fmt::format("<code title=\"{}\">--{}</code>", EscapeHtml(setting.help),
                             EscapeHtml(setting.name))) +
            Cell(fmt::format("<code>{}</code>", EscapeHtml(setting.value)), "t") +
            Cell(EscapeHtml(setting.source)) + "</tr>";
  }
  return html += kEndTable;
}

std::string Configuration(const FrontPageData& data) {
  return "<h2 id=\"configuration\">Configuration in force</h2>" + SettingRows(data, false) +
         "<details id=\"defaults\"><summary>options at their defaults</summary>" +
         SettingRows(data, true) + "</details>";
}

// "": of all lines.
std::string LevelForm(const FrontPageData& data, const std::string& plugin) {
  if (!data.writes) return "";
  std::string level = plugin.empty() ? data.log_level : "default";
  if (const auto own = data.plugin_log_levels.find(plugin); own != data.plugin_log_levels.end()) {
    level = own->second;
  }
  std::string html = "<form method=\"post\" action=\"/actions/log_level\">";
  if (!plugin.empty()) {
    html += fmt::format("<input type=\"hidden\" name=\"plugin\" value=\"{}\">", EscapeHtml(plugin));
  }
  html += "<label>log level <select name=\"level\">";
  for (const std::string_view name : {"default", "debug", "info", "warning", "error"}) {
    if (plugin.empty() && name == "default") continue;
    html += fmt::format("<option{}>{}</option>", name == level ? " selected" : "", name);
  }
  return html + "</select></label><button>Set</button></form>";
}

std::string ExplainForm(const FrontPageData& data) {
  std::string html =
      "<form method=\"post\" action=\"/actions/explain\">"
      "<label>explain requests to <input name=\"path_prefix\" value=\"/\" size=\"10\"></label>"
      "<label>with header <input name=\"header\" placeholder=\"name:value\" size=\"14\"></label>"
      "<button>Explain 20</button></form>";
  if (!data.explain_rules.empty()) html += Button(data, "/actions/explain_off", "Explain no more");
  return html;
}

std::string Explanations(const FrontPageData& data) {
  std::string html = "<p><a href=\"/explain\">Requests that were explained</a> (JSON)";
  if (data.explain_rules.empty()) return html + "</p>";
  html += ". Rules:</p><ul>";
  for (const std::string& rule : data.explain_rules) {
    html += fmt::format("<li>{}</li>", EscapeHtml(ShownRule(rule, ShownRedaction())));
  }
  return html + "</ul>";
}

std::string Actions(const FrontPageData& data) {
  std::string html = "<h2 id=\"actions\">Changes</h2>";
  if (!data.writes) {
    return html +
           "<p class=\"dim\">This page only shows. --admin_writes=on lets it change the log "
           "level, drain the host, promote canaries, release plugins from quarantine and go back "
           "to earlier "
           "generations.</p>";
  }
  html += LevelForm(data, "") + ExplainForm(data);
  html += "<details id=\"drain\"><summary>drain and stop this host</summary>" +
          Button(data, "/actions/drain", "Drain now") + "</details>";
  if (data.changes.empty()) return html;
  html += BeginTable({"#ago", "change", "result"});
  for (const PageChange& change : data.changes) {
    html += "<tr>" + Cell(Age(change.time_ns, data.now_ns), "n") + Cell(EscapeHtml(change.what)) +
            Cell(EscapeHtml(change.result), "t") + "</tr>";
  }
  return html += kEndTable;
}

std::string Header(const FrontPageData& data) {
  const std::string_view color = data.state == "ready" ? "good" : "warn";
  std::string html = fmt::format(
      "<header><h1>callout-host</h1><div id=\"status\">{} {} <span class=\"dim\">{} · pid {} · up "
      "{}"
      " · {}{} · log level {}</span></div><nav><a href=\"#plugins\">plugins</a><a "
      "href=\"#streams\">streams</a>"
      "<a href=\"#faults\">faults</a><a href=\"#limits\">limits</a>"
      "<a href=\"#certificates\">certificates</a><a href=\"#configuration\">configuration</a>"
      "<a href=\"/metrics\">metrics</a><a href=\"/plugins\">JSON</a></nav>"
      "<span id=\"refresh\" class=\"dim\"><noscript>refreshes every 5 s</noscript></span></header>",
      Colored(color, data.state), EscapeHtml(data.version), EscapeHtml(data.host), data.pid,
      Age(data.start_ns, data.now_ns), EscapeHtml(data.transport),
      data.workers == 0 ? "" : fmt::format(" · {} workers", data.workers),
      EscapeHtml(data.log_level));
  return html;
}

}  // namespace

std::string RenderFrontPage(const FrontPageData& data) {
  std::string html =
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>";
  html += fmt::format("<title>callout-host on {}</title><style>{}</style></head><body>",
                      EscapeHtml(data.host), kStyle);
  html += Header(data) + "<main>" + Problems(data) + Tiles(data) + Plugins(data) + Shadows(data) +
          Faults(data) + Streams(data) + Explanations(data) + Limits(data) + Certificates(data) +
          Actions(data) + Configuration(data) + "</main>";
  html += fmt::format("<script>{}</script></body></html>\n", kScript);
  return html;
}

std::vector<std::pair<std::string, std::string>> FrontPageHeaders() {
  static const std::string policy = fmt::format(
      "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; form-action "
      "'self'; "
      "base-uri 'none'; frame-ancestors 'none'",
      CspHash(kStyle), CspHash(kScript));
  return {{"Content-Security-Policy", policy},
          {"X-Content-Type-Options", "nosniff"},
          {"X-Frame-Options", "DENY"},
          // no-referrer would make the Origin of its own forms "null".
          {"Referrer-Policy", "same-origin"},
          {"Cross-Origin-Opener-Policy", "same-origin"},
          {"Cross-Origin-Resource-Policy", "same-origin"},
          {"Cache-Control", "no-store"},
          {"Vary", "Accept"}};
}

}  // namespace callout::host
