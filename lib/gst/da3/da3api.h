/* SPDX-License-Identifier: MIT */
#ifndef GST_DA3_API_H
#define GST_DA3_API_H

#if defined(__GNUC__)
#define GST_DA3_API __attribute__ ((visibility ("default"))) extern
#else
#define GST_DA3_API extern
#endif

#endif
