dnl SPDX-License-Identifier: BSD-3-Clause
dnl SNT_COMPILER_FLAGS: sets SNT_CFLAGS and SNT_LDFLAGS. They stand beside the user's CFLAGS,
dnl which therefore replace the optimisation and never the warnings.
AC_DEFUN([SNT_COMPILER_FLAGS], [
AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [make every warning an error])],,
	[enable_werror=no])
AC_ARG_ENABLE([sanitizers], [AS_HELP_STRING([--enable-sanitizers=LIST],
	[build with these sanitizers: address,undefined or thread])],, [enable_sanitizers=no])
SNT_CFLAGS="-std=gnu11 -Wall -Wextra -fvisibility=hidden"
SNT_LDFLAGS=
AS_IF([test "$enable_werror" = yes], [SNT_CFLAGS="$SNT_CFLAGS -Werror"])
AS_IF([test "$enable_sanitizers" = yes], [enable_sanitizers=address,undefined])
AS_IF([test "$enable_sanitizers" != no], [
	snt_sanitize="-fsanitize=$enable_sanitizers"
	snt_saved_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS $snt_sanitize"
	AC_MSG_CHECKING([whether a program links with $snt_sanitize])
	AC_LINK_IFELSE([AC_LANG_PROGRAM()], [AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])
		AC_MSG_ERROR([$CC does not know $snt_sanitize])])
	CFLAGS=$snt_saved_CFLAGS
	SNT_CFLAGS="$SNT_CFLAGS $snt_sanitize -fno-omit-frame-pointer -fno-sanitize-recover=all"
	SNT_LDFLAGS="$snt_sanitize"
])
AC_SUBST([SNT_CFLAGS])
AC_SUBST([SNT_LDFLAGS])
])
