/* Declarations of the part of Apple's Foundation that hearth uses, for type checks by a cross-compiler that
 * has the Objective-C runtime's headers alone. Nothing is linked. */
#ifndef HEARTH_TEST_FOUNDATION_H
#define HEARTH_TEST_FOUNDATION_H

#include <objc/NSObject.h>
#include <objc/objc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef double CFTimeInterval;

@class NSString;

@protocol NSCopying
@end

@interface NSString : NSObject <NSCopying>
+ (NSString *)stringWithUTF8String:(const char *)text;
- (const char *)UTF8String;
- (NSUInteger)length;
@end

/* What the compiler makes @"…" of. */
@interface NSConstantString : NSString
@end

@interface NSNumber : NSObject
- (int)intValue;
@end

@interface NSError : NSObject
- (NSInteger)code;
- (NSString *)localizedDescription;
@end

@interface NSDictionary : NSObject
@end

@interface NSMutableDictionary : NSDictionary
+ (NSMutableDictionary *)dictionary;
- (void)setObject:(id)object forKey:(id<NSCopying>)key;
@end

#endif
