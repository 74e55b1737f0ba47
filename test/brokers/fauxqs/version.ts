/** The release of fauxqs that the suites run against: of the image, and of the development dependency. */
export const FAUXQS_VERSION = "2.4.1";
