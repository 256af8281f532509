dnl SPDX-License-Identifier: BSD-3-Clause
dnl SNT_MPI: sets have_mpi, HAVE_MPI, MPI_CFLAGS and MPI_LIBS. Only one example uses MPI, so
dnl its flags are asked of the wrapper and our own compiler stays in charge.
AC_DEFUN([SNT_MPI], [
AC_ARG_WITH([mpi], [AS_HELP_STRING([--with-mpi=yes|no|MPICC],
	[build the MPI example @<:@when mpicc is found@:>@])],, [with_mpi=auto])
have_mpi=no
MPI_CFLAGS=
MPI_LIBS=
AS_CASE([$with_mpi],
	[no], [MPICC=],
	[yes|auto], [AC_PATH_PROG([MPICC], [mpicc])],
	[MPICC=$with_mpi])
AS_IF([test -n "$MPICC"], [
	for snt_word in $($MPICC -show 2>/dev/null); do
		AS_CASE([$snt_word],
			[-I*|-D*], [MPI_CFLAGS="$MPI_CFLAGS $snt_word"],
			[-L*|-l*|-Wl,-rpath*], [MPI_LIBS="$MPI_LIBS $snt_word"])
	done
	snt_saved_CFLAGS=$CFLAGS
	snt_saved_LIBS=$LIBS
	CFLAGS="$CFLAGS $MPI_CFLAGS"
	LIBS="$MPI_LIBS $LIBS"
	AC_MSG_CHECKING([whether a program links with MPI])
	AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <mpi.h>]], [[return MPI_Finalize();]])],
		[have_mpi=yes])
	AC_MSG_RESULT([$have_mpi])
	CFLAGS=$snt_saved_CFLAGS
	LIBS=$snt_saved_LIBS
])
AS_IF([test "$have_mpi" = no && test "$with_mpi" != no && test "$with_mpi" != auto],
	[AC_MSG_ERROR([MPI was asked for and does not work (Debian: libopenmpi-dev)])])
AC_SUBST([MPI_CFLAGS])
AC_SUBST([MPI_LIBS])
AM_CONDITIONAL([HAVE_MPI], [test "$have_mpi" = yes])
])
