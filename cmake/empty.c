// SPDX-License-Identifier: Apache-2.0
// A translation unit for targets that consist of libraries only.
extern const int facet_empty_unit;
const int facet_empty_unit = 0;
