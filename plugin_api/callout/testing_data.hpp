// SPDX-License-Identifier: Apache-2.0

// callout/testing_data.hpp - network ext_proc in the fake host of <callout/testing.hpp>, which is
// to be included.
//
//     callout::testing::Stream connection(plugin);
//     callout::testing::DataAnswer answer = connection.read_data("hello");
//     assert(answer.passes() && answer.data == "hello");
#ifndef CALLOUT_TESTING_DATA_HPP_
#define CALLOUT_TESTING_DATA_HPP_

#include <callout/message.h>

#include <callout/testing_answer.hpp>
#include <callout/view.hpp>
#include <string>
#include <string_view>

namespace callout::testing {

// What a plugin has answered, taken apart.
struct DataAnswer {
  enum class Connection { kGoesOn, kCloses, kResets };

  callout_status_t status = CALLOUT_OK;  // of the hook, or given to finish()
  std::string error;
  bool deferred = false;
  std::string problem;  // what the host would not accept, or empty

  Connection connection = Connection::kGoesOn;
  std::string data;          // that goes on: what came, unless the plugin has said otherwise
  bool is_replaced = false;  // the plugin has said otherwise
  std::string metadata;      // a Struct

  // Every status but OK resets the connection, or is a fault.
  bool passes() const {
    return status == CALLOUT_OK && connection == Connection::kGoesOn && problem.empty();
  }

  // Reads what was set with `field` in a call of `phase`; false if it is malformed.
  bool read(callout_phase_t phase, callout_field_t field, callout_bytes_t bytes);

 private:
  bool read_data(callout_bytes_t bytes);
  bool read_whole(callout_phase_t phase, callout_bytes_t bytes);
};

// Data: data 1.
inline bool DataAnswer::read_data(callout_bytes_t bytes) {
  is_replaced = true;
  data.clear();
  return read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 1) data.assign(to_view(record.bytes));
    return true;
  });
}

// ProcessingResponse: read_data 1, write_data 2, connection_status 4, dynamic_metadata 5.
inline bool DataAnswer::read_whole(callout_phase_t phase, callout_bytes_t bytes) {
  return read_records(bytes, [&](const callout_reader_t& record) {
    if (record.field == 1 || record.field == 2) return read(phase, record.field, record.bytes);
    if (record.field == 4) {
      if (record.number > 2) problem = "a connection status that is none";
      connection = record.number == 1   ? Connection::kCloses
                   : record.number == 2 ? Connection::kResets
                                        : Connection::kGoesOn;
    }
    if (record.field == 5) metadata.append(to_view(record.bytes));
    return true;
  });
}

inline bool DataAnswer::read(callout_phase_t phase, callout_field_t field, callout_bytes_t bytes) {
  if (field == CALLOUT_WHOLE_RESPONSE) return read_whole(phase, bytes);
  const bool is_own = (phase == CALLOUT_READ_DATA && field == CALLOUT_READ_DATA_RESPONSE) ||
                      (phase == CALLOUT_WRITE_DATA && field == CALLOUT_WRITE_DATA_RESPONSE);
  if (!is_own) problem = "data of a direction that the call is not about";
  return read_data(bytes);
}

}  // namespace callout::testing

#endif  // CALLOUT_TESTING_DATA_HPP_
