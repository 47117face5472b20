/* Translations, of which CUnit has none.  See CUnit.h. */
#ifndef HARNESS_CUNIT_CUNIT_INTL_H
#define HARNESS_CUNIT_CUNIT_INTL_H

#undef _
#define _(String) (String)
#undef N_
#define N_(String) String
#undef textdomain
#define textdomain(Domain)
#undef bindtextdomain
#define bindtextdomain(Package, Directory)

#endif
