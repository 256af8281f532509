dnl SPDX-License-Identifier: BSD-3-Clause
dnl SNT_UCX: sets have_ucx, HAVE_UCX and UCX_CFLAGS. Only the headers are asked for: the library is
dnl opened when a port of the ucx transport is.
AC_DEFUN([SNT_UCX], [
AC_ARG_WITH([ucx], [AS_HELP_STRING([--with-ucx=auto|yes|no],
	[build the ucx transport @<:@when its headers are found@:>@])],, [with_ucx=auto])
have_ucx=no
UCX_CFLAGS=
AS_IF([test "$with_ucx" != no], [
	PKG_CHECK_MODULES([UCX], [ucx >= 1.13],, [:])
	snt_saved_CPPFLAGS=$CPPFLAGS
	CPPFLAGS="$CPPFLAGS $UCX_CFLAGS"
	AC_CHECK_HEADERS([ucp/api/ucp.h ucs/debug/log_def.h], [have_ucx=yes], [have_ucx=no; break])
	CPPFLAGS=$snt_saved_CPPFLAGS
])
AS_IF([test "$have_ucx" = no && test "$with_ucx" != no && test "$with_ucx" != auto],
	[AC_MSG_ERROR([UCX was asked for and its headers are not there (Debian: libucx-dev)])])
AC_SUBST([UCX_CFLAGS])
AM_CONDITIONAL([HAVE_UCX], [test "$have_ucx" = yes])
])
